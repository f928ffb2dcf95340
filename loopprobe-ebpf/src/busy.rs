//! Tasks whose polls add up.

use loopprobe_common::{
    counters::Counter,
    records::{BusyRecord, Kind},
    target::Own,
    thread::OpenPoll,
};

use crate::maps::{BUSY, EVENTS, count, slow_ns};

/// A poll that took so long has ended then. Inlined: a frame of its own would be one too many, for
/// all frames together may take 512 bytes.
#[inline(always)]
pub fn add(target: u32, poll: &OpenPoll, ns: u64, end_ns: u64) {
    if poll.task_id == 0 {
        return;
    }
    let id = Own::new(target, poll.task_id);
    let before = match BUSY.get_ptr_mut(&id) {
        // SAFETY: a deleted element's memory stays the map's. A task is polled by one thread at a
        // time.
        Some(sum) => unsafe {
            let before = *sum;
            *sum = before + ns;
            before
        },
        None => {
            let _ = BUSY.insert(&id, &ns, 0);
            0
        }
    };
    let busy_ns = before + ns;
    if doublings(busy_ns) > doublings(before) {
        send(target, poll, busy_ns, end_ns);
    }
}

/// 0 below the limit, 1 from there to its double, and so on.
#[inline(always)]
fn doublings(ns: u64) -> u32 {
    let times = ns / slow_ns().max(1);
    if times == 0 { 0 } else { times.ilog2() + 1 }
}

#[inline(always)]
fn send(target: u32, poll: &OpenPoll, busy_ns: u64, time_ns: u64) {
    let Some(mut entry) = EVENTS.reserve::<BusyRecord>(0) else {
        count(target, Counter::EventLost);
        return;
    };
    entry.write(BusyRecord {
        kind: Kind::Busy as u16,
        target: target as u16,
        task_type: poll.task_type,
        task_id: poll.task_id,
        busy_ns,
        time_ns,
    });
    entry.submit(0);
}
