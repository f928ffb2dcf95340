//! Tracepoints at which threads go off and on their CPUs, and are woken. They are typed (`tp_btf`):
//! the verifier knows that their arguments are tasks.

use core::hint::black_box;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use loopprobe_common::{
    cost::Part,
    thread::{Thread, Waker},
    watch::Wait,
};

use crate::{
    clock::now,
    cost,
    maps::{WAKERS, config, is_over, takes_stacks},
    split::{catch_up, switch_in, switch_out},
    stack, task,
    task_struct::KernelTask,
    thread::scheduled_task,
    verifier::forget_ways,
    watch, why,
};

/// A context switch: whether it is a preemption, from which task, to which
/// (`include/trace/events/sched.h`). Linux 5.18 and later give the previous task's state too, but
/// no other than the task itself still has here: 0 if it goes on to run, else not 0, although a
/// wake-up on another CPU may have changed it.
#[derive(Clone, Copy)]
struct Switch {
    preempted: u64,
    previous: KernelTask,
    next: KernelTask,
}

impl Switch {
    #[inline(always)]
    fn of(ctx: &BtfTracePointContext) -> Self {
        Self {
            preempted: ctx.arg(0),
            previous: KernelTask::argument(ctx, 1),
            next: KernelTask::argument(ctx, 2),
        }
    }

    /// Whether the previous task waits for something.
    #[inline(always)]
    fn is_voluntary(self) -> bool {
        self.preempted == 0 && self.previous.state() != 0
    }
}

#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let switch = Switch::of(&ctx);
    // The clock is read for the target's threads only: this runs at every switch of every process.
    let mut seen = Seen::NOBODY;
    if let Some(thread) = scheduled_task(switch.previous) {
        let now = now();
        if is_over(thread.target, now) {
            return 0;
        }
        seen = Seen::of(thread, now);
        let tid = thread.kernel_tid;
        let cpu_ns = switch.previous.cpu_time();
        catch_up(tid, thread, cpu_ns, now);
        thread.cpu_ns = cpu_ns;
        let now = forget_ways(&mut thread.off_ns, now);
        // Not before: the verifier would follow each way through `catch_up` once for each outcome.
        let voluntary = switch.is_voluntary();
        switch_out(tid, thread, voluntary, switch.preempted, now);
    }
    if let Some(thread) = scheduled_task(switch.next) {
        let now = seen.or_now();
        if !is_over(thread.target, now) {
            seen = Seen::of(thread, now);
            let waited_ns = thread.runnable_ns;
            thread.flags |= Thread::FRESH;
            let tid = thread.kernel_tid;
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
#[btf_tracepoint(function = "sched_switch")]
pub fn watch_switch(ctx: BtfTracePointContext) -> i32 {
    let switch = Switch::of(&ctx);
    let mut seen = Seen::NOBODY;
    if let Some(thread) = watch::current(switch.previous) {
        let now = now();
        if !is_during(thread.target, now) {
            return 0;
        }
        seen = Seen::of(thread, now);
        let tid = thread.kernel_tid;
        let cpu_ns = switch.previous.cpu_time();
        catch_up(tid, thread, cpu_ns, now);
        thread.cpu_ns = cpu_ns;
        let now = forget_ways(&mut thread.off_ns, now);
        watch::look(thread, now);
        let voluntary = switch.is_voluntary();
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
    if let Some(thread) = scheduled_task(switch.next) {
        let now = seen.or_now();
        if is_during(thread.target, now) && thread.off != Thread::OFF_NOT {
            seen = Seen::of(thread, now);
            let has_run = switch.next.cpu_time() != thread.cpu_ns;
            watch_back(thread, has_run, now);
        }
    }
    seen.count();
    0
}

/// A thread that is watched goes on its CPU. Nothing of it `has_run` if its CPU time is still the
/// same.
#[inline(never)]
fn watch_back(thread: &mut Thread, has_run: bool, now: u64) {
    let tid = thread.kernel_tid;
    let waited_ns = thread.runnable_ns;
    let wait = Wait {
        at_ns: thread.off_ns,
        ns: now.saturating_sub(thread.off_ns),
        runnable_ns: 0,
    };
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

/// A thread is made ready to run by the current one. Argument: the task.
#[btf_tracepoint(function = "sched_waking")]
pub fn sched_waking(ctx: BtfTracePointContext) -> i32 {
    let _ = try_waking(KernelTask::argument(&ctx, 0));
    0
}

/// The same for a new thread.
#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn sched_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    let _ = try_waking(KernelTask::argument(&ctx, 0));
    0
}

#[inline(always)]
fn try_waking(task: KernelTask) -> Option<()> {
    let (woken, waker) = (scheduled_task(task), scheduled_task(KernelTask::current()));
    // Else the compiler puts the two pointers together into one number, which the verifier forbids.
    if black_box(woken.is_none()) && black_box(waker.is_none()) {
        return None;
    }
    let target = match &woken {
        Some(thread) => thread.target,
        None => waker.as_ref()?.target,
    };
    let start_ns = now();
    let result = wake(task, woken, waker, start_ns);
    cost::some(target, Part::Wake, start_ns);
    result
}

#[inline(always)]
fn wake(
    task: KernelTask,
    woken: Option<&'static mut Thread>,
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
    let tid = waker.kernel_tid;
    let poll = waker.innermost_mut()?;
    task::read_late(target, poll);
    let waker = Waker {
        tid,
        reserved: 0,
        start_ns: poll.start_ns,
        scheduler: poll.scheduler,
    };
    match woken {
        Some(thread) => thread.waker = waker,
        None if task.is_of_current_process() => {
            let _ = WAKERS.insert(&task.tid(), &waker, 0);
        }
        None => {}
    }
    Some(())
}
