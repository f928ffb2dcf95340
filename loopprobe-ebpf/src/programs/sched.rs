//! Tracepoints at which threads go off and on their CPUs, and are woken.

use core::hint::black_box;

use aya_ebpf::{
    helpers::generated::bpf_get_current_task, macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use loopprobe_common::{
    cost::Part,
    thread::{Thread, Waker},
    watch::Wait,
};

use super::arguments;
use crate::{
    clock::now,
    cost,
    maps::{WAKERS, config, is_over, takes_stacks, task_pid_offset, task_tgid_offset},
    split::{catch_up, switch_in, switch_out},
    stack, task,
    task_struct::{cpu_time, current_cpu_time, current_state, current_tgid, task_field},
    thread::{current_tid, known, may_be_known, scheduled_task},
    verifier::forget_ways,
    watch, why,
};

/// Arguments: whether the switch is a preemption, the previous task, the next task
/// (`include/trace/events/sched.h`). Linux 5.18 and later give the previous task's state too, but
/// no other than the task itself still has here: 0 if it goes on to run, else not 0, although a
/// wake-up on another CPU may have changed it.
#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn sched_switch(ctx: RawTracePointContext) -> i32 {
    let args = arguments::<3>(&ctx);
    // The clock is read for the target's threads only: this runs at every switch of every process.
    let tid = current_tid();
    let mut seen = Seen::NOBODY;
    if may_be_known(args[1])
        && let Some(thread) = known(tid)
    {
        let now = now();
        if is_over(thread.target, now) {
            return 0;
        }
        seen = Seen::of(thread, now);
        let cpu_ns = current_cpu_time();
        catch_up(tid, thread, cpu_ns, now);
        thread.cpu_ns = cpu_ns;
        let now = forget_ways(&mut thread.off_ns, now);
        // Not before: the verifier would follow each way through `catch_up` once for each outcome.
        let voluntary = args[0] == 0 && current_state() != 0;
        switch_out(tid, thread, voluntary, args[0], now);
    }
    if let Some((tid, thread)) = scheduled_task(args[2]) {
        let now = seen.or_now();
        if !is_over(thread.target, now) {
            seen = Seen::of(thread, now);
            let waited_ns = thread.runnable_ns;
            thread.flags |= Thread::FRESH;
            switch_in(tid, thread, now);
            if thread.depth > 0 {
                why::had_cpu(tid, thread, thread.runnable_ns - waited_ns);
            }
        }
    }
    seen.count();
    0
}

/// Whose switch it is, and when it was looked at: reading the clock takes a tenth of the whole.
#[derive(Clone, Copy)]
struct Seen {
    target: u32,
    /// 0 for nobody's.
    at_ns: u64,
}

impl Seen {
    const NOBODY: Self = Self {
        target: 0,
        at_ns: 0,
    };

    #[inline(always)]
    fn of(thread: &Thread, now: u64) -> Self {
        Self {
            target: thread.target,
            at_ns: now,
        }
    }

    #[inline(always)]
    fn or_now(self) -> u64 {
        match self.at_ns {
            0 => now(),
            at_ns => at_ns,
        }
    }

    #[inline(always)]
    fn count(self) {
        if self.at_ns != 0 {
            cost::some(self.target, Part::Switch, self.at_ns);
        }
    }
}

/// The same where the target's threads are watched instead of probed.
#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn watch_switch(ctx: RawTracePointContext) -> i32 {
    let args = arguments::<3>(&ctx);
    let tid = current_tid();
    let mut seen = Seen::NOBODY;
    if let Some(thread) = watch::current(args[1]) {
        let now = now();
        if !is_during(thread.target, now) {
            return 0;
        }
        seen = Seen::of(thread, now);
        let cpu_ns = current_cpu_time();
        catch_up(tid, thread, cpu_ns, now);
        thread.cpu_ns = cpu_ns;
        let now = forget_ways(&mut thread.off_ns, now);
        watch::look(thread, now);
        let voluntary = args[0] == 0 && current_state() != 0;
        thread.woken_ns = 0;
        thread.off = if voluntary {
            Thread::OFF_BLOCKED
        } else {
            Thread::OFF_RUNNABLE
        };
        if voluntary && thread.depth > 0 && takes_stacks(thread.target) {
            stack::keep(tid, thread, now);
        }
    }
    if let Some((tid, thread)) = scheduled_task(args[2]) {
        let now = seen.or_now();
        if is_during(thread.target, now) && thread.off != Thread::OFF_NOT {
            seen = Seen::of(thread, now);
            watch_back(tid, thread, args[2], now);
        }
    }
    seen.count();
    0
}

/// A thread that is watched goes on its CPU.
#[inline(never)]
fn watch_back(tid: u32, thread: &mut Thread, task: u64, now: u64) {
    let waited_ns = thread.runnable_ns;
    let wait = Wait {
        at_ns: thread.off_ns,
        ns: now.saturating_sub(thread.off_ns),
        runnable_ns: 0,
    };
    // Nothing of it has run if its CPU time is the same.
    let has_run = cpu_time(task) != thread.cpu_ns;
    switch_in(tid, thread, now);
    let runnable_ns = thread.runnable_ns - waited_ns;
    if thread.depth > 0 {
        why::had_cpu(tid, thread, runnable_ns);
    }
    watch::back(
        thread,
        Wait {
            runnable_ns,
            ..wait
        },
        has_run,
        now,
    );
}

/// Whether a target's session has begun, and is not over.
#[inline(always)]
fn is_during(target: u32, now: u64) -> bool {
    config(target).is_some_and(|config| config.has_begun(now) && !config.is_over(now))
}

/// A thread is made ready to run by the current one; it runs at `sched_wakeup_new` too, where that
/// is a new one. Argument: the task.
#[raw_tracepoint(tracepoint = "sched_waking")]
pub fn sched_waking(ctx: RawTracePointContext) -> i32 {
    let _ = try_waking(arguments::<1>(&ctx)[0]);
    0
}

#[inline(always)]
fn try_waking(task: u64) -> Option<()> {
    // SAFETY: the helper takes nothing.
    let waker_task = unsafe { bpf_get_current_task() };
    let (may_be_woken, may_be_waker) = (may_be_known(task), may_be_known(waker_task));
    if !may_be_woken && !may_be_waker {
        return None;
    }
    let tid = task_field(task, task_pid_offset())?;
    let woken = if may_be_woken { known(tid) } else { None };
    let waker_tid = current_tid();
    let waker = if may_be_waker { known(waker_tid) } else { None };
    // Else the compiler puts the two pointers together into one number, which the verifier forbids.
    if black_box(woken.is_none()) && black_box(waker.is_none()) {
        return None;
    }
    let target = match &woken {
        Some(thread) => thread.target,
        None => waker.as_ref()?.target,
    };
    let start_ns = now();
    let result = wake(tid, task, woken, waker_tid, waker, start_ns);
    cost::some(target, Part::Wake, start_ns);
    result
}

#[inline(always)]
fn wake(
    tid: u32,
    task: u64,
    woken: Option<&'static mut Thread>,
    waker_tid: u32,
    waker: Option<&'static mut Thread>,
    now: u64,
) -> Option<()> {
    let mut woken = woken;
    if let Some(thread) = &mut woken
        && thread.off == Thread::OFF_BLOCKED
        && thread.woken_ns == 0
    {
        thread.woken_ns = now;
        if thread.flags & Thread::KEPT != 0 && thread.depth > 0 {
            stack::send_waker(thread, task, waker.as_deref());
        }
    }
    // Who starts a worker on another thread? See `thread::mark_block_in_place`. A worker that has
    // handed its core over is a thread of the blocking pool again, so workers are no exception.
    let waker = waker?;
    let target = waker.target;
    let poll = waker.innermost_mut()?;
    task::read_late(target, poll);
    let waker = Waker {
        tid: waker_tid,
        reserved: 0,
        start_ns: poll.start_ns,
        scheduler: poll.scheduler,
    };
    match woken {
        Some(thread) => thread.waker = waker,
        None if task_field(task, task_tgid_offset())? == current_tgid() => {
            let _ = WAKERS.insert(&tid, &waker, 0);
        }
        None => {}
    }
    Some(())
}
