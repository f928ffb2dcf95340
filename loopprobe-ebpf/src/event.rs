//! Sending records.

use loopprobe_common::{
    counters::Counter,
    records::{Kind, PollRecord, ProcessRecord},
    thread::{OpenPoll, Thread},
};

use crate::maps::{EVENTS, count};

/// Sends a poll that has ended.
#[inline(always)]
pub fn poll(kind: Kind, thread: &Thread, poll: &OpenPoll, end_ns: u64) {
    let Some(mut entry) = EVENTS.reserve::<PollRecord>(0) else {
        count(Counter::EventLost);
        return;
    };
    entry.write(PollRecord {
        kind: kind as u32,
        tid: thread.tid,
        end_ns,
        poll: OpenPoll {
            blocked_ns: thread.blocked_ns - poll.blocked_ns,
            runnable_ns: thread.runnable_ns - poll.runnable_ns,
            ..*poll
        },
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
