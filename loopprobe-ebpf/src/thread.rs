//! Finding and making a thread's state.

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_ns_current_pid_tgid},
};
use loopprobe_common::{counters::Counter, thread::Thread};

use crate::maps::{EMPTY_THREAD, THREADS, WAKERS, count, pid_namespace, target};

/// The current thread's id as the kernel numbers it.
#[inline(always)]
pub fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// The state of a thread that is known already.
#[inline(always)]
pub fn known(tid: u32) -> Option<&'static mut Thread> {
    // SAFETY: the kernel frees a deleted element only after a grace period, so the reference outlives the program's run. Only
    // the thread itself and the scheduler, while the thread is off its CPU, write to it, so no two writers meet.
    unsafe { THREADS.get_ptr_mut(&tid).map(|t| &mut *t) }
}

/// The state of the current thread, made on first use. `None` if the thread is not the target's, or the table is full.
#[inline(always)]
pub fn current() -> Option<&'static mut Thread> {
    let tid = current_tid();
    match known(tid) {
        Some(thread) => Some(thread),
        None => create(tid),
    }
}

#[inline(never)]
fn create(tid: u32) -> Option<&'static mut Thread> {
    let visible = visible_tid()?;
    let empty = EMPTY_THREAD.get(0)?;
    if THREADS.insert(&tid, empty, 0).is_err() {
        count(Counter::ThreadLost);
        return None;
    }
    let thread = known(tid)?;
    thread.tid = visible;
    // SAFETY: the value is copied out at once.
    if let Some(waker) = unsafe { WAKERS.get(&tid) } {
        thread.waker = *waker;
        let _ = WAKERS.remove(&tid);
    }
    Some(thread)
}

/// The current thread's id in loopprobe's pid namespace, if it is one of the target's.
#[inline(always)]
pub fn visible_tid() -> Option<u32> {
    let (tgid, tid) = match pid_namespace() {
        None => {
            let id = bpf_get_current_pid_tgid();
            ((id >> 32) as u32, id as u32)
        }
        Some((dev, ino)) => {
            let mut info = bpf_pidns_info { pid: 0, tgid: 0 };
            // SAFETY: the helper writes to `info`, whose size is given. Linux 5.7, `kernel/bpf/helpers.c`.
            let failed = unsafe {
                bpf_get_ns_current_pid_tgid(
                    dev,
                    ino,
                    &raw mut info,
                    size_of::<bpf_pidns_info>() as u32,
                )
            };
            if failed != 0 {
                return None;
            }
            (info.tgid, info.pid)
        }
    };
    (tgid == target()).then_some(tid)
}
