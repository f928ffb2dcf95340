//! The root future of a runtime that runs on one thread. It is not a task, so no probe sees it; but
//! the time that such a thread spends neither in a task's poll nor parked is its own (the scheduler
//! never takes milliseconds).

use loopprobe_common::{
    config::UNKNOWN_TYPE,
    records::Kind,
    thread::{OpenPoll, Thread},
};

use crate::{
    clock::now,
    event::{self, End},
    maps::{config, is_light, is_over},
};

/// From here on the thread's time is the root future's.
#[inline(always)]
pub fn begin(thread: &mut Thread, now: u64) {
    if !is_over(thread.target, now) {
        start(thread, now);
        if thread.depth == 0 {
            thread.unsent_ns = 0;
        }
    }
}

/// The same while its last poll is in question, and within the session.
#[inline(always)]
pub fn start(thread: &mut Thread, now: u64) {
    thread.gap_ns = now;
    thread.gap_blocked_ns = thread.blocked_ns;
    thread.gap_runnable_ns = thread.runnable_ns;
}

/// The root future's time has ended.
#[inline(always)]
pub fn end(thread: &mut Thread) {
    end_with(thread, 0);
}

/// The same, with what is known of the time that has ended. While a poll is in question the record
/// has the question: it is the root future's time only if the answer is that the poll has ended.
#[inline(always)]
pub fn end_with(thread: &mut Thread, flags: u32) {
    let start_ns = thread.gap_ns;
    if start_ns == 0 || !has_root(thread) {
        return;
    }
    let end_ns = now();
    if is_over(thread.target, end_ns) {
        return;
    }
    thread.gap_ns = 0;
    // A loop that only waits for a CPU keeps nobody from running: that is not the root future's
    // doing.
    let own_ns = (end_ns - start_ns).saturating_sub(thread.runnable_ns - thread.gap_runnable_ns);
    if config(thread.target)
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

/// The thread has left its last poll: from here on its time is the root future's, if it is not
/// already since that poll was in question.
#[inline(always)]
pub fn follow(thread: &mut Thread, now: u64) {
    if thread.depth == 0 && thread.flags & Thread::LOCAL != 0 && thread.gap_ns == 0 {
        begin(thread, now);
    }
}

/// Whether the thread's time is the root future's once its innermost poll has ended.
#[inline(always)]
pub fn is_next(thread: &Thread) -> bool {
    thread.depth == 1 && has_root(thread)
}

/// Whether the thread's time is the root future's, or may be.
#[inline(always)]
pub fn may_run(thread: &Thread) -> bool {
    if thread.depth == 0 {
        return has_root(thread);
    }
    is_light() && is_next(thread) && thread.is_in_question()
}

/// Whether the thread's gaps are a root future's: it runs a loop of its own, and is no worker of a
/// shared one.
#[inline(always)]
pub fn has_root(thread: &Thread) -> bool {
    thread.flags & Thread::SHARED == 0
        && thread.flags & (Thread::LOCAL | Thread::EPOLL | Thread::BLOCK_ON) != 0
}
