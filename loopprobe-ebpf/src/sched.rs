//! Threads going off and on their CPUs: splits a poll's time into running, ready and blocked, and sees a thread park.

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_probe_read_kernel, generated::bpf_get_current_task},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use loopprobe_common::{
    cost::Part,
    counters::Counter,
    thread::{Thread, Waker},
    watch::Wait,
};

use crate::{
    cost, edge, health,
    light::{self, Stop},
    maps::{
        CONFIG, WAKERS, count, is_light, is_over, task_cpu_time_offset, task_pid_offset,
        task_state_offset, task_tgid_offset,
    },
    poll::now,
    root, stack, task,
    thread::{current_tid, scheduled},
    verifier::forget_ways,
    watch, why,
};

/// Arguments: whether the switch is a preemption, the previous task, the next task (`include/trace/events/sched.h`). Linux 5.18
/// and later give the previous task's state too, but no other than the task itself still has here: 0 if it goes on to run, else
/// not 0, although a wake-up on another CPU may have changed it.
#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn sched_switch(ctx: RawTracePointContext) -> i32 {
    let args = arguments::<3>(&ctx);
    // The clock is read for the target's threads only: this runs at every switch of every process.
    let tid = current_tid();
    if let Some(thread) = scheduled(tid) {
        let now = now();
        if is_over(now) {
            return 0;
        }
        let cpu_ns = cpu_time(args[1]);
        catch_up(tid, thread, cpu_ns, now);
        thread.cpu_ns = cpu_ns;
        let now = forget_ways(&mut thread.off_ns, now);
        // Not before: the verifier would follow each way through `catch_up` once for each outcome.
        let voluntary =
            args[0] == 0 && task_field(args[1], task_state_offset()).is_some_and(|s| s != 0);
        switch_out(tid, thread, voluntary, args[0], now);
        cost::some(Part::Switch, now);
    }
    if let Some(tid) = task_field(args[2], task_pid_offset())
        && let Some(thread) = scheduled(tid)
    {
        let now = now();
        if !is_over(now) {
            let waited_ns = thread.runnable_ns;
            thread.flags |= Thread::FRESH;
            switch_in(tid, thread, now);
            if thread.depth > 0 {
                why::had_cpu(tid, thread, thread.runnable_ns - waited_ns);
            }
            cost::some(Part::Switch, now);
        }
    }
    0
}

/// The same where the target's threads are watched instead of probed.
#[raw_tracepoint(tracepoint = "sched_switch")]
pub fn watch_switch(ctx: RawTracePointContext) -> i32 {
    let args = arguments::<3>(&ctx);
    let tid = current_tid();
    if let Some(thread) = watch::current() {
        let now = now();
        if !is_during(now) {
            return 0;
        }
        let cpu_ns = cpu_time(args[1]);
        catch_up(tid, thread, cpu_ns, now);
        thread.cpu_ns = cpu_ns;
        let now = forget_ways(&mut thread.off_ns, now);
        watch::look(thread, now);
        let voluntary =
            args[0] == 0 && task_field(args[1], task_state_offset()).is_some_and(|s| s != 0);
        thread.woken_ns = 0;
        thread.off = if voluntary {
            Thread::OFF_BLOCKED
        } else {
            Thread::OFF_RUNNABLE
        };
        if voluntary && thread.depth > 0 && CONFIG.get(0).is_some_and(|c| c.stacks != 0) {
            stack::keep(tid, thread, now);
        }
        cost::some(Part::Switch, now);
    }
    if let Some(tid) = task_field(args[2], task_pid_offset())
        && let Some(thread) = scheduled(tid)
    {
        let now = now();
        if is_during(now) && thread.off != Thread::OFF_NOT {
            watch_back(tid, thread, args[2], now);
            cost::some(Part::Switch, now);
        }
    }
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

/// Whether the session has begun, and is not over.
#[inline(always)]
fn is_during(now: u64) -> bool {
    CONFIG
        .get(0)
        .is_some_and(|config| config.has_begun(now) && !config.is_over(now))
}

#[inline(always)]
fn switch_out(tid: u32, thread: &mut Thread, voluntary: bool, preempted: u64, now: u64) {
    thread.woken_ns = 0;
    thread.off = if voluntary {
        Thread::OFF_BLOCKED
    } else {
        Thread::OFF_RUNNABLE
    };
    if is_light()
        && voluntary
        && thread.depth > 0
        && let Some(stop) = Stop::waiting()
    {
        light::settle(thread, &stop, now);
    }
    if let Some(poll) = thread.innermost_mut() {
        task::read_late(poll);
    }
    if !voluntary {
        if thread.depth > 0 {
            edge::preempted(thread, now);
            if preempted == 0 && why::yields() && CONFIG.get(0).is_some_and(|c| c.stacks != 0) {
                stack::keep(tid, thread, now);
            }
        }
        return;
    }
    if thread.depth > 0 {
        if CONFIG.get(0).is_some_and(|c| c.stacks != 0) {
            stack::keep(tid, thread, now);
        }
    } else if root::has_root(thread) {
        if stack::waits_for_events(thread.flags & Thread::EPOLL == 0) {
            root::end(thread);
            thread.flags |= Thread::PARKED;
            health::park(thread, now);
        } else if thread.gap_ns != 0 && CONFIG.get(0).is_some_and(|c| c.stacks != 0) {
            stack::keep(tid, thread, now);
        }
    } else if thread.flags & Thread::SHARED != 0 {
        health::park(thread, now);
    }
    if thread.driver != 0 {
        health::wait_in_driver(thread);
    }
}

#[inline(always)]
fn switch_in(tid: u32, thread: &mut Thread, now: u64) {
    let off = thread.off;
    if off == Thread::OFF_NOT {
        count(Counter::SwitchLost);
        return;
    }
    let ready_ns = match off {
        Thread::OFF_BLOCKED if thread.woken_ns == 0 => now,
        // `now` may be a guess of `catch_up`'s, and the wake-up later than that.
        Thread::OFF_BLOCKED => thread.woken_ns.min(now),
        _ => thread.off_ns,
    };
    thread.blocked_ns += ready_ns - thread.off_ns;
    thread.runnable_ns += now - ready_ns;
    thread.off = Thread::OFF_NOT;
    if thread.awake_ns == 0 {
        thread.awake_ns = ready_ns;
    }
    if thread.flags & Thread::IN_DRIVER != 0 {
        health::leave_driver(thread, ready_ns, now);
    }
    if thread.flags & Thread::NOT_BEGUN != 0 {
        thread.flags &= !Thread::NOT_BEGUN;
        edge::begin(thread, now);
    }
    if thread.flags & Thread::PARKED != 0 {
        thread.flags &= !Thread::PARKED;
        root::begin(thread, now);
    }
    if thread.flags & Thread::KEPT != 0 {
        thread.flags &= !Thread::KEPT;
        end_wait(tid, thread, ready_ns, now);
    }
}

/// The thread runs although nothing has shown it going on its CPU: seen on a virtual machine with Linux 6.18, where some switches
/// from the idle task reach no tracing program, ftrace's neither. It was off for as long as its CPU time did not grow.
#[inline(never)]
fn catch_up(tid: u32, thread: &mut Thread, cpu_ns: u64, now: u64) {
    if thread.off == Thread::OFF_NOT || is_over(now) {
        return;
    }
    count(Counter::SwitchLost);
    let ran_ns = cpu_ns.saturating_sub(thread.cpu_ns);
    let back_ns = now.saturating_sub(ran_ns).max(thread.off_ns);
    switch_in(tid, thread, back_ns);
}

/// The same for the current thread, wherever it is, which was back on its CPU at `by_ns` at the latest. Its CPU time is as old as the
/// scheduler's last look at it, a few milliseconds at the most.
#[inline(always)]
pub fn catch_up_current(thread: &mut Thread, by_ns: impl FnOnce() -> u64) {
    if thread.off == Thread::OFF_NOT {
        return;
    }
    let by_ns = by_ns();
    if !is_over(by_ns) {
        // SAFETY: the helper takes nothing.
        let task = unsafe { bpf_get_current_task() };
        catch_up(thread.kernel_tid, thread, cpu_time(task), by_ns);
    }
}

/// How long a task has been on a CPU, in nanoseconds.
#[inline(always)]
fn cpu_time(task: u64) -> u64 {
    // SAFETY: the helper fails on a bad address.
    unsafe { bpf_probe_read_kernel((task + task_cpu_time_offset()) as *const u64) }.unwrap_or(0)
}

/// A wait that has a stack is over. One that was long is sent; short ones once together they are.
#[inline(always)]
fn end_wait(tid: u32, thread: &mut Thread, ready_ns: u64, now: u64) {
    let Some(config) = CONFIG.get(0) else { return };
    let unsent_ns = thread.unsent_ns;
    let blocked_ns = ready_ns - thread.off_ns;
    if (now - thread.off_ns).max(unsent_ns + blocked_ns) >= config.min_block_ns {
        stack::send_kept(tid, thread, unsent_ns, now);
        thread.unsent_ns = 0;
    } else {
        thread.unsent_ns = unsent_ns + blocked_ns;
    }
}

/// A thread is made ready to run by the current one. Argument: the task.
#[raw_tracepoint(tracepoint = "sched_waking")]
pub fn sched_waking(ctx: RawTracePointContext) -> i32 {
    let _ = try_waking(arguments::<1>(&ctx)[0]);
    0
}

/// A new thread is made ready to run for the first time. Argument: the task.
#[raw_tracepoint(tracepoint = "sched_wakeup_new")]
pub fn sched_wakeup_new(ctx: RawTracePointContext) -> i32 {
    let _ = try_waking(arguments::<1>(&ctx)[0]);
    0
}

#[inline(always)]
fn try_waking(task: u64) -> Option<()> {
    let tid = task_field(task, task_pid_offset())?;
    let woken = scheduled(tid);
    let waker_tid = current_tid();
    let waker = scheduled(waker_tid);
    // Else the compiler puts the two pointers together into one number, which the verifier forbids.
    if black_box(woken.is_none()) && black_box(waker.is_none()) {
        return None;
    }
    let start_ns = now();
    let result = wake(tid, task, woken, waker_tid, waker, start_ns);
    cost::some(Part::Wake, start_ns);
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
            stack::send_waker(thread, task);
        }
    }
    // Who starts a worker on another thread? See `poll::mark_block_in_place`. A worker that has handed its core over is a thread
    // of the blocking pool again, so workers are no exception.
    let poll = waker?.innermost_mut()?;
    task::read_late(poll);
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

/// Whether a task is a thread of the current one's process.
#[inline(always)]
pub fn is_of_current(task: u64) -> bool {
    task_field(task, task_tgid_offset()) == Some(current_tgid())
}

#[inline(always)]
fn current_tgid() -> u32 {
    (aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32) as u32
}

/// The arguments of a raw tracepoint.
#[inline(always)]
pub fn arguments<const N: usize>(ctx: &RawTracePointContext) -> [u64; N] {
    let args: *mut c_void = ctx.as_ptr();
    // SAFETY: the context of a raw tracepoint is an array of as many words as the tracepoint has arguments, and each caller
    // names its tracepoint's number of them.
    unsafe { *args.cast::<[u64; N]>() }
}

/// A 32-bit field of a `task_struct`.
#[inline(always)]
pub fn task_field(task: u64, offset: u64) -> Option<u32> {
    // SAFETY: the helper fails on a bad address.
    unsafe { bpf_probe_read_kernel((task + offset) as *const u32) }.ok()
}
