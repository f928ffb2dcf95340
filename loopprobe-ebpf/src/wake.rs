//! From a task's wake to its poll.

use loopprobe_common::{
    counters::Counter,
    health::Longest,
    histogram,
    records::{DelayRecord, Kind, LEAST_LAG_NS},
    target::Own,
    thread::{OpenPoll, Thread},
    wake::Woken,
};

use crate::{
    maps::{DELAYS, EVENTS, LONGEST_DELAY, WOKEN, config, count},
    thread::Visible,
};

/// A task is scheduled by this thread, in the poll that began at `poll_ns`.
#[inline(always)]
pub fn scheduled(header: u64, ns: u64, by: &Visible, poll_ns: u64) {
    let woken = Woken {
        ns,
        poll_ns,
        tid: by.tid,
        reserved: 0,
    };
    let task = Own::new(by.target, header);
    if WOKEN.insert(&task, &woken, 0).is_err() {
        count(by.target, Counter::WakeLost);
    }
}

/// A poll of the current thread begins: how long its task has waited for that.
#[inline(never)]
pub fn polled(thread: &Thread, poll: &OpenPoll) {
    let target = thread.target;
    let Some(config) = config(target) else {
        return;
    };
    let task = Own::new(target, poll.header);
    // SAFETY: the value is copied out at once. Nobody else schedules the task until it is polled.
    let woken = unsafe { WOKEN.get(&task) }.copied();
    if woken.is_some() {
        let _ = WOKEN.remove(&task);
    }
    if !config.has_begun(poll.start_ns) {
        return;
    }
    let woken = match woken {
        Some(woken) if (config.wakes_from_ns..=poll.start_ns).contains(&woken.ns) => woken,
        _ => return count(target, Counter::WakeUnseen),
    };
    let ns = poll.start_ns - woken.ns;
    if let Some(longest) = LONGEST_DELAY.get_ptr_mut(target) {
        // SAFETY: the pointer is to this CPU's own value.
        Longest::note(unsafe { &mut *longest }, config.look, ns);
    }
    if let Some(stats) = DELAYS.get_ptr_mut(poll.task_type) {
        // SAFETY: as above.
        let stats = unsafe { &mut *stats };
        stats.polls += 1;
        stats.total_ns += ns;
        if ns > stats.max_ns {
            stats.max_ns = ns;
        }
        // As in `ending::tally`.
        let bucket = core::hint::black_box(histogram::bucket(ns));
        if let Some(n) = stats.buckets.get_mut(bucket) {
            *n += 1;
        }
    }
    if ns >= config.threshold_ns.max(LEAST_LAG_NS) {
        send(thread, poll, woken);
    }
}

#[inline(always)]
fn send(thread: &Thread, poll: &OpenPoll, woken: Woken) {
    let Some(mut entry) = EVENTS.reserve::<DelayRecord>(0) else {
        count(thread.target, Counter::EventLost);
        return;
    };
    entry.write(DelayRecord {
        kind: Kind::Delay as u16,
        target: thread.target as u16,
        tid: thread.tid,
        start_ns: poll.start_ns,
        woken,
        task_type: poll.task_type,
        reserved: 0,
    });
    entry.submit(0);
}
