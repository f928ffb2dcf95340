//! The root future of a runtime that runs on one thread. It is not a task, so no probe sees it; but the time that such a thread
//! spends neither in a task's poll nor parked is its own (the scheduler never takes milliseconds).

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use loopprobe_common::{
    config::{LOOP_TEXT_RANGES, UNKNOWN_TYPE},
    cost::Part,
    light::Place,
    records::Kind,
    thread::{OpenPoll, Thread},
};

use crate::{
    arch, cost, event, health,
    light::{self, Stop},
    maps::{CONFIG, LOOP_TEXT, is_light, is_over},
    own_stack,
    poll::{End, now},
    sched,
    thread::current,
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
    cost::count(Part::Loop);
    // SAFETY: the context's registers are the thread's at the probe.
    let caller = arch::caller(unsafe { &*ctx.regs })?;
    if !is_loop_text(caller) {
        return None;
    }
    let thread = current()?;
    let descriptor = ctx.arg::<u64>(0)? & 0xffff_ffff;
    if is_light() && thread.depth > 0 {
        let stop = Stop {
            // SAFETY: the context's registers are the thread's at the probe.
            sp: arch::stack_pointer(unsafe { &*ctx.regs }),
            ip: caller,
            what: Place::WHAT_EPOLL | descriptor,
        };
        sched::catch_up_current(thread, now);
        let now = now();
        if !is_over(now) {
            light::settle(thread, &stop, now);
        }
    }
    turn(thread, Thread::EPOLL);
    let now = now();
    if !is_over(now) {
        health::enter_driver(thread, descriptor as u32, now);
    }
    Some(())
}

/// `tokio::runtime::park::Inner::park` is called: a thread in `block_on` of a multi_thread runtime has polled its future.
#[uprobe]
pub fn park_enter(ctx: ProbeContext) -> u32 {
    own_stack::of_thread(&ctx);
    cost::count(Part::Loop);
    if let Some(thread) = current() {
        turn(thread, Thread::BLOCK_ON);
    }
    0
}

/// `CachedParkThread::block_on` is called: what came before is not the root future's.
#[uprobe]
pub fn block_on_enter(ctx: ProbeContext) -> u32 {
    own_stack::of_thread(&ctx);
    cost::count(Part::Loop);
    if let Some(thread) = current()
        && thread.depth == 0
    {
        // How much of the time until now was under the `block_on` before this one, stacks tell.
        end_with(thread, OpenPoll::LEFT);
        thread.flags |= Thread::BLOCK_ON;
        begin(thread, now());
    }
    0
}

#[inline(always)]
fn turn(thread: &mut Thread, flag: u32) {
    sched::catch_up_current(thread, now);
    cost::probe(thread);
    thread.flags |= flag;
    if thread.depth == 0 {
        end(thread);
        begin(thread, now());
    }
}

/// From here on the thread's time is the root future's.
#[inline(always)]
pub fn begin(thread: &mut Thread, now: u64) {
    if is_over(now) {
        return;
    }
    thread.gap_ns = now;
    thread.unsent_ns = 0;
    thread.gap_blocked_ns = thread.blocked_ns;
    thread.gap_runnable_ns = thread.runnable_ns;
}

/// The root future's time has ended.
#[inline(always)]
pub fn end(thread: &mut Thread) {
    end_with(thread, 0);
}

#[inline(always)]
fn end_with(thread: &mut Thread, flags: u32) {
    let start_ns = thread.gap_ns;
    if start_ns == 0 || !has_root(thread) {
        return;
    }
    let end_ns = now();
    if is_over(end_ns) {
        return;
    }
    thread.gap_ns = 0;
    // A loop that only waits for a CPU keeps nobody from running: that is not the root future's doing.
    let own_ns = (end_ns - start_ns).saturating_sub(thread.runnable_ns - thread.gap_runnable_ns);
    if CONFIG
        .get(0)
        .is_some_and(|c| c.threshold_ns != 0 && own_ns >= c.threshold_ns && c.has_begun(start_ns))
    {
        let poll = OpenPoll {
            start_ns,
            blocked_ns: thread.gap_blocked_ns,
            runnable_ns: thread.gap_runnable_ns,
            task_type: UNKNOWN_TYPE,
            flags,
            ..OpenPoll::default()
        };
        event::poll(Kind::Root, thread, &poll, &End::now(thread, end_ns));
    }
}

/// Whether the thread's gaps are a root future's: it runs a loop of its own, and is no worker of a shared one.
#[inline(always)]
pub fn has_root(thread: &Thread) -> bool {
    thread.flags & Thread::SHARED == 0
        && thread.flags & (Thread::LOCAL | Thread::EPOLL | Thread::BLOCK_ON) != 0
}

#[inline(always)]
fn is_loop_text(address: u64) -> bool {
    for i in 0..LOOP_TEXT_RANGES {
        if let Some(range) = LOOP_TEXT.get(i)
            && address >= range.start
            && address < range.end
        {
            return true;
        }
    }
    false
}
