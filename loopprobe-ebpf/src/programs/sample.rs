//! Samples: what a thread does on its CPU while a poll goes on.

use aya_ebpf::{
    EbpfContext as _, bindings::bpf_perf_event_data, macros::perf_event, programs::PerfEventContext,
};
use loopprobe_common::{
    config::Config,
    cost::Part,
    records::Kind,
    thread::{Thread, Waker},
};

use crate::{
    arch,
    clock::now,
    cost,
    maps::{BESIDE, HELPERS, WAKERS, config, is_over},
    split,
    stack::{Open, fill, open_since, send, send_of, slot},
    task,
    task_struct::KernelTask,
    thread::{Visible, current_tid, known, scheduled, visible},
    watch,
};

/// A sample of the thread on this CPU.
#[perf_event]
pub fn sample(ctx: PerfEventContext) -> u32 {
    let start_ns = now();
    let _ = try_sample(&ctx);
    if let Some(thread) = scheduled(current_tid()) {
        cost::each(thread.target, Part::Sample, start_ns);
    }
    0
}

/// The same where the target's threads are watched instead of probed.
#[perf_event]
pub fn watch_sample(ctx: PerfEventContext) -> u32 {
    let start_ns = now();
    let Some(thread) = watch::current(KernelTask::current()) else {
        return 0;
    };
    let is_during = |config: &Config| config.has_begun(start_ns) && !config.is_over(start_ns);
    if !config(thread.target).is_some_and(is_during) {
        return 0;
    }
    split::catch_up_current(thread, || start_ns);
    watch::look(thread, start_ns);
    let _ = try_sample(&ctx);
    cost::each(thread.target, Part::Sample, start_ns);
    0
}

#[inline(always)]
fn try_sample(ctx: &PerfEventContext) -> Option<()> {
    let tid = current_tid();
    if let Some(thread) = known(tid) {
        let target = thread.target;
        if is_over(target, now()) {
            return None;
        }
        split::catch_up_current(thread, now);
        if let Some(poll) = thread.innermost_mut() {
            task::read_late(target, poll);
        }
    }
    let now = now();
    match known(tid).and_then(|thread| open_since(thread).map(|open| (thread, open))) {
        Some((thread, open)) => {
            let config = config(thread.target)?;
            if config.stacks != 0 && now - open.since_ns >= config.sample_after_ns {
                let slot = slot(tid)?;
                fill(slot, Kind::Sample, &Visible::of(thread), &open, now)?;
                slot.record.in_kernel = u32::from(is_in_kernel(ctx));
                send_of(slot, thread);
            }
        }
        None => sample_beside(tid, now)?,
    }
    Some(())
}

/// A sample of a thread that is in no poll, if it is worth one.
#[inline(always)]
fn sample_beside(tid: u32, now: u64) -> Option<()> {
    let who = visible()?;
    let config = config(who.target)?;
    if config.is_over(now) || config.stacks == 0 {
        return None;
    }
    let kind = if helps(&who, tid, now) {
        Kind::Beside
    } else if config.scan != 0 {
        Kind::Scan
    } else {
        return None;
    };
    let slot = slot(tid)?;
    fill(slot, kind, &who, &Open::default(), now)?;
    send(slot, false);
    Some(())
}

/// A thread that has ended no long wait of a poll for this long helps no more.
const HELPS_NS: u64 = 5_000_000_000;

/// Whether a thread that is in no poll is worth a sample: what it does may be what polls wait for.
#[inline(always)]
fn helps(who: &Visible, tid: u32, now: u64) -> bool {
    helped_before(who.target, tid, now) || is_waited_for(tid)
}

/// Whether a poll has woken or started the thread, and is itself blocked now.
#[inline(always)]
fn is_waited_for(tid: u32) -> bool {
    // SAFETY: the value is copied out at once.
    let Some(Waker { tid, start_ns, .. }) = unsafe { WAKERS.get(&tid) }.copied() else {
        return false;
    };
    known(tid).is_some_and(|thread| {
        thread.off == Thread::OFF_BLOCKED
            && thread
                .innermost()
                .is_some_and(|poll| poll.start_ns == start_ns)
    })
}

/// Whether the thread has ended a long wait of a poll a short time ago.
#[inline(always)]
fn helped_before(target: u32, tid: u32, now: u64) -> bool {
    let Some(left) = BESIDE.get_ptr_mut(target) else {
        return false;
    };
    // SAFETY: an array's elements live as long as the map. Another CPU may take from it at the same
    // time; then a sample more is sent.
    let left = unsafe { &mut *left };
    // SAFETY: the value is a plain number.
    let last_ns = unsafe { HELPERS.get(&tid) }.copied();
    let helps = *left > 0 && last_ns.is_some_and(|last_ns| now < last_ns + HELPS_NS);
    *left = left.saturating_sub(u32::from(helps));
    helps
}

/// Whether the sample interrupted the kernel.
#[inline(always)]
fn is_in_kernel(ctx: &PerfEventContext) -> bool {
    let data: *const bpf_perf_event_data = ctx.as_ptr().cast();
    // SAFETY: that is what the kernel calls such programs with
    // (`include/uapi/linux/bpf_perf_event.h`).
    arch::is_kernel(unsafe { &(*data).regs })
}
