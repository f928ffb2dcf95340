//! A thread that loses its CPU at the edge of a poll: inside the probe before the poll's first
//! instruction, or behind its last one. That wait is not the poll's.
//!
//! A breakpoint is handled on the way back to user code, and there the kernel gives the CPU away
//! too, after the program has run (`exit_to_user_mode_loop` in `kernel/entry/common.c`). By then
//! the instruction under the breakpoint has been emulated as a rule.

use aya_ebpf::bindings::pt_regs;
use loopprobe_common::{
    config::FirstInstruction,
    thread::{OpenPoll, Thread},
};

use crate::{
    arch::{self, Lent},
    light,
    maps::{SITES, is_light},
    root, saved,
};

/// What the trampolines push, at the most: three registers, and the return address of the one that
/// is called.
const MOST_PUSHED: u64 = 32;

/// How far above a poll's entry its callers' frames lie at the most. Further up is another stack.
const CALLERS: u64 = 64 << 10;

/// The current thread goes off its CPU although it could go on, with a poll open.
#[inline(always)]
pub fn preempted(thread: &mut Thread, now: u64) {
    if light::is_settling(thread) {
        return;
    }
    // What lies deep on the program's stack is gone before polls are ended.
    let sp = see(thread, now);
    if sp != NOWHERE {
        leave(thread, sp, now);
    }
}

/// No stack pointer: none of user code is 0.
const NOWHERE: u64 = 0;

/// Sees whether the thread is at an edge of its innermost poll; returns the stack pointer up to
/// which it has left its polls, where only this tells, else [`NOWHERE`]. An `Option` would be
/// written to the caller's stack, and the register that results come back in may hold a pointer to
/// it then, which the verifier forbids ("cannot return stack pointer to the caller"; Linux 7.3).
#[inline(never)]
fn see(thread: &mut Thread, now: u64) -> u64 {
    let (Some(poll), Some(regs)) = (thread.innermost(), saved::user_registers()) else {
        return NOWHERE;
    };
    let regs = arch::user(&regs);
    let sp = arch::stack_pointer(regs);
    let ip = arch::instruction_pointer(regs);
    if is_light() && is_at_next(thread, poll, regs) {
        return sp;
    }
    if is_before(poll, ip, sp) {
        thread.flags |= Thread::NOT_BEGUN;
    } else if is_behind(poll, ip, sp) {
        if is_light() {
            return sp - 1;
        }
        returned(thread, now);
    }
    NOWHERE
}

/// Whether the thread is at the probe of its next poll, from the same place as the innermost one,
/// which it has left: the program has not run yet.
#[inline(always)]
fn is_at_next(thread: &Thread, poll: &OpenPoll, regs: &pt_regs) -> bool {
    if arch::stack_pointer(regs) != poll.stack_pointer {
        return false;
    }
    let distance = arch::instruction_pointer(regs).wrapping_sub(poll.probe);
    if distance == 0 {
        // Or the program has run a moment ago, and this is its poll.
        return has_run(thread, poll, regs);
    }
    let is_next = |first: &FirstInstruction| first.pushed == 0 && first.next.contains(&distance);
    distance == arch::TRAPPED
        && !SITES
            .get(poll.site)
            .is_some_and(|site| is_next(&site.first))
}

/// Whether the poll has been going on: it has lost its CPU before, or its thread's registers are
/// not those that its program saw. Time would not tell: a virtual machine can stand still between a
/// program and the switch behind it.
#[inline(always)]
fn has_run(thread: &Thread, poll: &OpenPoll, regs: &pt_regs) -> bool {
    thread.blocked_ns != poll.blocked_ns
        || thread.runnable_ns != poll.runnable_ns
        || thread.entered_with != arch::scratch(regs)
}

/// The innermost poll, which had not executed any instruction yet, begins now.
#[inline(always)]
pub fn begin(thread: &mut Thread, now: u64) {
    let (blocked_ns, runnable_ns) = (thread.blocked_ns, thread.runnable_ns);
    if let Some(poll) = thread.innermost_mut() {
        poll.start_ns = now;
        poll.blocked_ns = blocked_ns;
        poll.runnable_ns = runnable_ns;
    }
}

/// Whether the poll has executed its first instruction at the most, which the kernel has done for
/// it.
#[inline(always)]
fn is_before(poll: &OpenPoll, ip: u64, sp: u64) -> bool {
    let entry = poll.stack_pointer;
    if sp > entry {
        return false;
    }
    let distance = ip.wrapping_sub(poll.probe);
    if distance == 0 {
        return sp == entry;
    }
    if let Some(site) = SITES.get(poll.site) {
        let first = &site.first;
        if (distance == first.next[0] || distance == first.next[1]) && entry - sp == first.pushed {
            return true;
        }
    }
    if entry - sp > MOST_PUSHED {
        return false;
    }
    match arch::lent(ip) {
        Lent::Instruction => sp == entry,
        Lent::Call => true,
        Lent::Return | Lent::No => false,
    }
}

/// Whether the poll has executed its last instruction.
#[inline(always)]
fn is_behind(poll: &OpenPoll, ip: u64, sp: u64) -> bool {
    let entry = poll.stack_pointer;
    if sp > entry {
        return sp - entry < CALLERS;
    }
    entry - sp <= MOST_PUSHED && matches!(arch::lent(ip), Lent::Return)
}

/// Keeps when the innermost poll returned, for its return probe.
#[inline(always)]
fn returned(thread: &mut Thread, now: u64) {
    let (blocked_ns, runnable_ns) = (thread.blocked_ns, thread.runnable_ns);
    let Some(poll) = thread.innermost_mut() else {
        return;
    };
    if poll.flags & OpenPoll::RETURNED != 0 {
        return;
    }
    poll.flags |= OpenPoll::RETURNED;
    thread.returned_ns = now;
    thread.returned_blocked_ns = blocked_ns;
    thread.returned_runnable_ns = runnable_ns;
}

/// Entry-only timing: the polls that the thread has left end, those that were entered with a stack
/// pointer up to this one.
#[inline(always)]
fn leave(thread: &mut Thread, sp: u64, now: u64) {
    light::close(thread, sp, now);
    root::follow(thread, now);
}
