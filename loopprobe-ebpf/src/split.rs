//! Splits a poll's time into running, ready and blocked, and sees a thread park.

use loopprobe_common::{counters::Counter, thread::Thread};

use crate::{
    edge, health,
    light::{self, Stop},
    maps::{config, count, is_light, is_over, takes_stacks},
    root, stack, task,
    task_struct::KernelTask,
    why,
};

/// The thread goes off its CPU.
#[inline(always)]
pub fn switch_out(tid: u32, thread: &mut Thread, voluntary: bool, preempted: u64, now: u64) {
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
    let target = thread.target;
    if let Some(poll) = thread.innermost_mut() {
        task::read_late(target, poll);
    }
    if !voluntary {
        if thread.depth > 0 {
            edge::preempted(thread, now);
            if preempted == 0 && why::yields() && takes_stacks(thread.target) {
                stack::keep(tid, thread, now);
            }
        }
        return;
    }
    if thread.depth > 0 {
        if takes_stacks(thread.target) {
            stack::keep(tid, thread, now);
        }
        if root::may_run(thread) && stack::parks(thread) {
            root::end(thread);
            thread.flags |= Thread::PARKED;
        }
    } else if root::has_root(thread) {
        if stack::parks(thread) {
            root::end(thread);
            thread.flags |= Thread::PARKED;
            health::park(thread, now);
        } else if thread.gap_ns != 0 && takes_stacks(thread.target) {
            stack::keep(tid, thread, now);
        }
    } else if thread.flags & Thread::SHARED != 0 {
        health::park(thread, now);
    }
    if thread.driver != 0 {
        health::wait_in_driver(thread);
    }
}

/// The thread goes on a CPU.
#[inline(always)]
pub fn switch_in(tid: u32, thread: &mut Thread, now: u64) {
    let off = thread.off;
    if off == Thread::OFF_NOT {
        count(thread.target, Counter::SwitchLost);
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

/// The thread runs although nothing has shown it going on its CPU: seen on a virtual machine with
/// Linux 6.18, where some switches from the idle task reach no tracing program, ftrace's neither.
/// It was off for as long as its CPU time did not grow.
#[inline(never)]
pub fn catch_up(tid: u32, thread: &mut Thread, cpu_ns: u64, now: u64) {
    if thread.off == Thread::OFF_NOT || is_over(thread.target, now) {
        return;
    }
    count(thread.target, Counter::SwitchLost);
    let ran_ns = cpu_ns.saturating_sub(thread.cpu_ns);
    let back_ns = now.saturating_sub(ran_ns).max(thread.off_ns);
    switch_in(tid, thread, back_ns);
}

/// The same for the current thread, wherever it is, which was back on its CPU at `by_ns` at the
/// latest. Its CPU time is as old as the scheduler's last look at it, a few milliseconds at the
/// most.
#[inline(always)]
pub fn catch_up_current(thread: &mut Thread, by_ns: impl FnOnce() -> u64) {
    if thread.off == Thread::OFF_NOT {
        return;
    }
    let by_ns = by_ns();
    if !is_over(thread.target, by_ns) {
        catch_up(
            thread.kernel_tid,
            thread,
            KernelTask::current().cpu_time(),
            by_ns,
        );
    }
}

/// A wait that has a stack is over. One that was long is sent; short ones once together they are.
#[inline(always)]
fn end_wait(tid: u32, thread: &mut Thread, ready_ns: u64, now: u64) {
    let Some(config) = config(thread.target) else {
        return;
    };
    let unsent_ns = thread.unsent_ns;
    let blocked_ns = ready_ns - thread.off_ns;
    if (now - thread.off_ns).max(unsent_ns + blocked_ns) >= config.min_block_ns {
        stack::send_kept(tid, thread, unsent_ns, now);
        thread.unsent_ns = 0;
    } else {
        thread.unsent_ns = unsent_ns + blocked_ns;
    }
}
