//! From a task's wake to its poll.

use loopprobe_common::{
    counters::Counter,
    health::Longest,
    histogram,
    records::{DelayRecord, Kind, LEAST_LAG_NS},
    thread::OpenPoll,
    wake::Woken,
};

use crate::{
    maps::{CONFIG, DELAYS, EVENTS, LONGEST_DELAY, WOKEN, count},
    thread::visible_tid,
};

/// A task is scheduled by this thread, in the poll that began at `poll_ns`.
#[inline(always)]
pub fn scheduled(header: u64, ns: u64, tid: u32, poll_ns: u64) {
    let woken = Woken {
        ns,
        poll_ns,
        tid,
        reserved: 0,
    };
    if WOKEN.insert(&header, &woken, 0).is_err() {
        count(Counter::WakeLost);
    }
}

/// A poll of the current thread begins: how long its task has waited for that.
#[inline(never)]
pub fn polled(poll: &OpenPoll) {
    let Some(config) = CONFIG.get(0) else {
        return;
    };
    let header = poll.header;
    // SAFETY: the value is copied out at once. Nobody else schedules the task until it is polled.
    let woken = unsafe { WOKEN.get(&header) }.copied();
    if woken.is_some() {
        let _ = WOKEN.remove(&header);
    }
    if !config.has_begun(poll.start_ns) {
        return;
    }
    let woken = match woken {
        Some(woken) if (config.wakes_from_ns..=poll.start_ns).contains(&woken.ns) => woken,
        _ => return count(Counter::WakeUnseen),
    };
    let ns = poll.start_ns - woken.ns;
    if let Some(longest) = LONGEST_DELAY.get_ptr_mut(0) {
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
        send(poll, woken);
    }
}

#[inline(always)]
fn send(poll: &OpenPoll, woken: Woken) {
    let Some(tid) = visible_tid() else {
        return;
    };
    let Some(mut entry) = EVENTS.reserve::<DelayRecord>(0) else {
        count(Counter::EventLost);
        return;
    };
    entry.write(DelayRecord {
        kind: Kind::Delay as u32,
        tid,
        start_ns: poll.start_ns,
        woken,
        task_type: poll.task_type,
        reserved: 0,
    });
    entry.submit(0);
}
