//! Probes at what an event loop calls when it turns: `epoll_wait`, and the functions that park a
//! thread.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use loopprobe_common::{
    config::LOOP_TEXT_RANGES,
    cost::Part,
    light::Place,
    thread::{OpenPoll, Thread},
};

use crate::{
    arch,
    clock::now,
    cost, health,
    light::{self, Stop},
    maps::{is_light, is_over, loop_text},
    own_stack, root, split,
    thread::{create, current, current_tid, known, visible},
};

/// `epoll_wait` is called. Even if it does not wait, the loop has turned.
#[uprobe]
pub fn epoll_enter(ctx: ProbeContext) -> u32 {
    own_stack::of_thread(&ctx);
    let _ = try_epoll_enter(&ctx);
    0
}

#[inline(always)]
fn try_epoll_enter(ctx: &ProbeContext) -> Option<()> {
    let tid = current_tid();
    let thread = known(tid);
    let target = match &thread {
        Some(thread) => thread.target,
        None => visible()?.target,
    };
    cost::count(target, Part::Loop);
    // SAFETY: the context's registers are the thread's at the probe.
    let caller = arch::caller(unsafe { &*ctx.regs })?;
    if !is_loop_text(target, caller) {
        return None;
    }
    let thread = match thread {
        Some(thread) => thread,
        None => create(tid)?,
    };
    let descriptor = ctx.arg::<u64>(0)? & 0xffff_ffff;
    if is_light() && thread.depth > 0 {
        let stop = Stop {
            // SAFETY: the context's registers are the thread's at the probe.
            sp: arch::stack_pointer(unsafe { &*ctx.regs }),
            ip: caller,
            what: Place::WHAT_EPOLL | descriptor,
        };
        split::catch_up_current(thread, now);
        let now = now();
        if !is_over(target, now) {
            light::at_probe(thread, |thread| light::settle(thread, &stop, now));
        }
    }
    turn(thread, Thread::EPOLL);
    let now = now();
    if !is_over(target, now) {
        health::enter_driver(thread, descriptor as u32, now);
    }
    Some(())
}

/// `park` or `park_timeout` of `tokio::runtime::park::Inner` is called: a thread in `block_on` of a
/// multi_thread runtime has polled its future.
#[uprobe]
pub fn park_enter(ctx: ProbeContext) -> u32 {
    own_stack::of_thread(&ctx);
    if let Some(thread) = current() {
        cost::count(thread.target, Part::Loop);
        turn(thread, Thread::BLOCK_ON);
        if thread.depth == 0 {
            thread.flags |= Thread::PARKS | Thread::PARKING;
        }
    }
    0
}

/// `CachedParkThread::block_on` is called: what came before is not the root future's.
#[uprobe]
pub fn block_on_enter(ctx: ProbeContext) -> u32 {
    own_stack::of_thread(&ctx);
    if let Some(thread) = current() {
        cost::count(thread.target, Part::Loop);
        if thread.depth == 0 {
            // How much of the time until now was under the `block_on` before this one, stacks tell.
            root::end_with(thread, OpenPoll::LEFT);
            thread.flags |= Thread::BLOCK_ON;
            root::begin(thread, now());
        }
    }
    0
}

#[inline(always)]
fn turn(thread: &mut Thread, flag: u32) {
    split::catch_up_current(thread, now);
    cost::probe(thread);
    thread.flags |= flag;
    if thread.depth == 0 || root::may_run(thread) {
        root::end(thread);
        root::begin(thread, now());
    }
}

#[inline(always)]
fn is_loop_text(target: u32, address: u64) -> bool {
    for i in 0..LOOP_TEXT_RANGES {
        if let Some(range) = loop_text(target, i)
            && address >= range.start
            && address < range.end
        {
            return true;
        }
    }
    false
}
