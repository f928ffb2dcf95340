//! Finding and making a thread's state.

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_ns_current_pid_tgid},
};
use loopprobe_common::{
    counters::Counter,
    target::{canary_key, mark},
    thread::{self, OpenPoll, Owner, Thread, Waker},
};

use crate::{
    clock::now,
    maps::{
        CROWDED, EMPTY_THREAD, HOMES, MAY_BE_TARGET, OWNERS, TAKEN, TARGETS, TASK_PLACES, TASKS,
        THREADS, WAKERS, count, pid_namespace,
    },
    task_struct::KernelTask,
};

/// The current thread's id as the kernel numbers it.
#[inline(always)]
pub fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// The state of a thread that is known already.
#[inline(always)]
pub fn known(tid: u32) -> Option<&'static mut Thread> {
    let place = place(tid);
    let home = HOMES.get_ptr_mut(place)?;
    // SAFETY: an array's elements live as long as the map. Only the thread itself and the
    // scheduler, while the thread is off its CPU, write to its state, so no two writers meet.
    let home = unsafe { &mut *home };
    // The idle thread's id is 0, as is the mark of an empty place.
    if home.kernel_tid == tid {
        return (tid != 0).then_some(home);
    }
    if *CROWDED.get(place)? == 0 {
        return None;
    }
    // SAFETY: as above; a deleted element's memory stays the map's.
    unsafe { THREADS.get_ptr_mut(&tid).map(|t| &mut *t) }
}

/// The same for a thread that is most probably no target's.
#[inline(always)]
pub fn scheduled(tid: u32) -> Option<&'static mut Thread> {
    let taken = TAKEN.get(0)?.get(place(tid) as usize)?;
    if *taken == 0 {
        return None;
    }
    known(tid)
}

/// The same by its task, whose id need not be looked at then.
#[inline(always)]
pub fn scheduled_task(task: KernelTask) -> Option<&'static mut Thread> {
    if !may_be_known(task) {
        return None;
    }
    known(task.tid())
}

/// Whether a task may be one of the known threads.
#[inline(always)]
fn may_be_known(task: KernelTask) -> bool {
    TASKS
        .get(0)
        .and_then(|tasks| tasks.get(task_place(task, tasks)))
        .is_some_and(|byte| *byte != 0)
}

/// A task's place in `TASKS`. Tasks begin on cache lines.
#[inline(always)]
fn task_place(task: KernelTask, tasks: &[u8; TASK_PLACES]) -> usize {
    let distance = task.distance_from(tasks);
    ((distance >> 6) ^ (distance >> 18)) as usize % TASK_PLACES
}

/// Where a thread's state is in `HOMES`, if no other thread's is there.
#[inline(always)]
fn place(tid: u32) -> u32 {
    tid % thread::HOMES
}

/// The state of the current thread, made on first use. `None` if the thread is no target's, or the
/// table is full.
#[inline(always)]
pub fn current() -> Option<&'static mut Thread> {
    let tid = current_tid();
    match known(tid) {
        Some(thread) => Some(thread),
        None => create(tid),
    }
}

#[inline(never)]
pub fn create(tid: u32) -> Option<&'static mut Thread> {
    let (process, visible) = visible_ids()?;
    let (target, flags) = match target_of(process) {
        Some(target) => (target, 0),
        None => (target_of(canary_key(visible))?, Thread::CANARY),
    };
    let thread = settle(tid, target)?;
    thread.tid = visible;
    thread.target = target;
    thread.flags = flags;
    thread.awake_ns = now();
    // SAFETY: the value is copied out at once.
    if let Some(waker) = unsafe { WAKERS.get(&tid) } {
        thread.waker = *waker;
        let _ = WAKERS.remove(&tid);
    }
    Some(thread)
}

/// Makes room for a thread: at home, or among those that share their place.
#[inline(always)]
fn settle(tid: u32, target: u32) -> Option<&'static mut Thread> {
    const ONLY_NEW: u64 = 1; // BPF_NOEXIST
    let empty = EMPTY_THREAD.get(0)?;
    let place = place(tid);
    // Only the current thread's state is made.
    let task = KernelTask::current();
    if let Some(tasks) = TASKS.get_ptr_mut(0)
        // SAFETY: an array's elements live as long as the map.
        && let Some(known) = unsafe { (*tasks).get_mut(task_place(task, &*tasks)) }
    {
        *known = 1;
    }
    if let Some(taken) = TAKEN.get_ptr_mut(0)
        // SAFETY: an array's elements live as long as the map.
        && let Some(taken) = unsafe { (*taken).get_mut(place as usize) }
    {
        *taken = 1;
    }
    let owner = Owner { tid, target };
    if OWNERS.insert(&place, &owner, ONLY_NEW).is_ok() {
        HOMES.set(place, empty, 0).ok()?;
        // SAFETY: as in `known`.
        let home = unsafe { &mut *HOMES.get_ptr_mut(place)? };
        home.kernel_tid = tid;
        return Some(home);
    }
    CROWDED.set(place, 1, 0).ok()?;
    CROWDED.set(thread::HOMES, 1, 0).ok()?;
    if THREADS.insert(&tid, empty, 0).is_err() {
        count(target, Counter::ThreadLost);
        return None;
    }
    // SAFETY: as in `known`.
    let thread = unsafe { &mut *THREADS.get_ptr_mut(&tid)? };
    thread.kernel_tid = tid;
    Some(thread)
}

/// Drops the state of a thread that is at its end.
#[inline(always)]
pub fn forget(tid: u32) {
    let place = place(tid);
    match HOMES.get_ptr_mut(place) {
        // SAFETY: as in `known`. Another CPU that has just found the state may still write the time
        // of a wake-up to it, which the next owner begins with zeros all the same, or survives.
        Some(home) if unsafe { (*home).kernel_tid == tid } => {
            // SAFETY: as above.
            unsafe { (*home).kernel_tid = 0 };
            let _ = OWNERS.remove(&place);
        }
        _ => {
            let _ = THREADS.remove(&tid);
        }
    }
}

/// A thread of a target.
pub struct Visible {
    /// Its id in loopprobe's pid namespace.
    pub tid: u32,
    /// Whose it is.
    pub target: u32,
}

impl Visible {
    /// A thread that is known already.
    #[inline(always)]
    pub fn of(thread: &Thread) -> Self {
        Self {
            tid: thread.tid,
            target: thread.target,
        }
    }
}

/// The current thread, if it is one of a target's.
#[inline(always)]
pub fn visible() -> Option<Visible> {
    let (process, tid) = visible_ids()?;
    Some(Visible {
        tid,
        target: target_of(process)?,
    })
}

/// The target with a key.
#[inline(always)]
fn target_of(key: u32) -> Option<u32> {
    if *MAY_BE_TARGET.get(0)?.get(mark(key))? == 0 {
        return None;
    }
    // SAFETY: the value is copied out at once.
    unsafe { TARGETS.get(&key) }.copied()
}

/// The ids of the current process and thread in loopprobe's pid namespace.
#[inline(always)]
fn visible_ids() -> Option<(u32, u32)> {
    Some(match pid_namespace() {
        None => {
            let id = bpf_get_current_pid_tgid();
            ((id >> 32) as u32, id as u32)
        }
        Some((dev, ino)) => {
            let mut info = bpf_pidns_info { pid: 0, tgid: 0 };
            // SAFETY: the helper writes to `info`, whose size is given. Linux 5.7,
            // `kernel/bpf/helpers.c`.
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
    })
}

/// A blocking closure is a worker. If an open poll of the same scheduler woke its thread, that poll
/// has handed its own worker over: `runtime::scheduler::multi_thread::worker::block_in_place`
/// (Tokio 1.0 to 1.54).
#[inline(always)]
pub fn mark_block_in_place(launcher: &Waker) {
    if launcher.tid == 0 {
        return;
    }
    let Some(other) = known(launcher.tid) else {
        return;
    };
    if let Some(poll) = other.innermost_mut()
        && poll.start_ns == launcher.start_ns
    {
        poll.flags |= OpenPoll::BLOCK_IN_PLACE;
    }
}
