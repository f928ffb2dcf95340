//! Sending records.

use loopprobe_common::{
    counters::Counter,
    light::Question,
    records::{Kind, PollRecord, ProcessRecord},
    thread::{OpenPoll, Thread},
};

use crate::{
    maps::{EVENTS, count},
    poll::End,
};

/// Sends a poll that has ended.
#[inline(always)]
pub fn poll(kind: Kind, thread: &Thread, poll: &OpenPoll, end: &End) {
    send(kind, thread, poll, end, Question::default());
}

/// Sends a poll that has ended now or, by what the thread's question is answered with, then.
#[inline(always)]
pub fn unsettled(thread: &Thread, poll: &OpenPoll, end: &End) {
    let question = Question {
        blocked_ns: thread.question.blocked_ns - poll.blocked_ns,
        runnable_ns: thread.question.runnable_ns - poll.runnable_ns,
        ..thread.question
    };
    send(Kind::Unsettled, thread, poll, end, question);
}

#[inline(always)]
fn send(kind: Kind, thread: &Thread, poll: &OpenPoll, end: &End, question: Question) {
    let Some(mut entry) = EVENTS.reserve::<PollRecord>(0) else {
        count(Counter::EventLost);
        return;
    };
    entry.write(PollRecord {
        kind: kind as u32,
        tid: thread.tid,
        end_ns: end.ns,
        poll: OpenPoll {
            blocked_ns: end.blocked_ns - poll.blocked_ns,
            runnable_ns: end.runnable_ns - poll.runnable_ns,
            ..*poll
        },
        question,
    });
    entry.submit(0);
}

/// Sends that something happened to the process.
#[inline(always)]
pub fn process(kind: Kind, tid: u32, time_ns: u64) {
    let Some(mut entry) = EVENTS.reserve::<ProcessRecord>(0) else {
        count(Counter::EventLost);
        return;
    };
    entry.write(ProcessRecord {
        kind: kind as u32,
        tid,
        time_ns,
    });
    entry.submit(0);
}
