//! Sending records.

use loopprobe_common::{
    counters::Counter,
    light::Question,
    records::{Kind, PollRecord, ProcessRecord},
    thread::{OpenPoll, Thread},
};

use crate::{
    maps::{EVENTS, count},
    thread::Visible,
};

/// The end of a poll.
pub struct End {
    /// When.
    pub ns: u64,
    /// The thread's `blocked_ns` then.
    pub blocked_ns: u64,
    /// The thread's `runnable_ns` then.
    pub runnable_ns: u64,
}

impl End {
    #[inline(always)]
    pub fn now(thread: &Thread, ns: u64) -> Self {
        Self {
            ns,
            blocked_ns: thread.blocked_ns,
            runnable_ns: thread.runnable_ns,
        }
    }

    /// The end of a poll that had returned some time before its return probe ran.
    #[inline(always)]
    pub fn at_return(thread: &Thread) -> Self {
        Self {
            ns: thread.returned_ns,
            blocked_ns: thread.returned_blocked_ns,
            runnable_ns: thread.returned_runnable_ns,
        }
    }
}

/// Sends a poll that has ended; or the root future's time, with what is in question if it is its
/// time only if a poll has ended then.
#[inline(always)]
pub fn poll(kind: Kind, thread: &Thread, poll: &OpenPoll, end: &End) {
    let is_in_doubt = kind as u16 == Kind::Root as u16 && thread.depth > 0;
    send(
        kind,
        thread,
        poll,
        end,
        is_in_doubt.then_some(&thread.question),
    );
}

/// Sends a poll that has ended now or, by what the thread's question is answered with, then.
#[inline(always)]
pub fn unsettled(thread: &Thread, poll: &OpenPoll, end: &End) {
    send(Kind::Unsettled, thread, poll, end, Some(&thread.question));
}

#[inline(always)]
fn send(kind: Kind, thread: &Thread, poll: &OpenPoll, end: &End, question: Option<&Question>) {
    let Some(mut entry) = EVENTS.reserve::<PollRecord>(0) else {
        count(thread.target, Counter::EventLost);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is all integers, and each of its fields is written. Piece by piece, from
    // map to buffer: a program's own stack is small.
    unsafe {
        (*record).kind = kind as u16;
        (*record).target = thread.target as u16;
        (*record).tid = thread.tid;
        (*record).end_ns = end.ns;
        (*record).poll = *poll;
        (*record).poll.blocked_ns = end.blocked_ns - poll.blocked_ns;
        (*record).poll.runnable_ns = end.runnable_ns - poll.runnable_ns;
        (*record).question = question.map_or(Question::default(), |question| *question);
        if let Some(question) = question {
            (*record).question.blocked_ns = question.blocked_ns.saturating_sub(poll.blocked_ns);
            (*record).question.runnable_ns = question.runnable_ns.saturating_sub(poll.runnable_ns);
        }
    }
    entry.submit(0);
}

/// Sends that something happened to the process.
#[inline(always)]
pub fn process(kind: Kind, by: &Visible, time_ns: u64) {
    let Some(mut entry) = EVENTS.reserve::<ProcessRecord>(0) else {
        count(by.target, Counter::EventLost);
        return;
    };
    entry.write(ProcessRecord {
        kind: kind as u16,
        target: by.target as u16,
        tid: by.tid,
        time_ns,
    });
    entry.submit(0);
}
