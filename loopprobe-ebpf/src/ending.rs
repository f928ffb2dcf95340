//! Polls that end, and polls whose end was missed.

use loopprobe_common::{
    counters::Counter,
    histogram,
    thread::{MAX_DEPTH, OpenPoll, Thread},
};

use crate::{
    busy,
    event::End,
    maps::{STATS, config, count, slow_ns},
};

/// Counts a poll that has ended, if it began in this session. Says whether it was long.
#[inline(always)]
pub fn tally(target: u32, poll: &OpenPoll, end: &End) -> bool {
    let mut duration = end.ns - poll.start_ns;
    let mut long = false;
    if let Some(config) = config(target) {
        if !config.has_begun(poll.start_ns) {
            return false;
        }
        if duration >= config.threshold_ns.saturating_add(config.dead_ns) {
            long = true;
            duration -= config.dead_ns;
        }
        if slow_ns() != 0 {
            busy::add(target, poll, duration, end.ns);
        }
    }
    if let Some(stats) = STATS.get_ptr_mut(poll.task_type) {
        // SAFETY: the pointer is to this CPU's own value.
        let stats = unsafe { &mut *stats };
        stats.polls += 1;
        stats.total_ns += duration;
        if duration > stats.max_ns {
            stats.max_ns = duration;
        }
        if long {
            stats.long += 1;
            stats.long_ns += duration;
        }
        // The verifier cannot see that the bucket is in range, and the compiler must not use that
        // it can.
        let bucket = core::hint::black_box(histogram::bucket(duration));
        if let Some(n) = stats.buckets.get_mut(bucket) {
            *n += 1;
        }
    }
    long
}

/// Drops polls whose return was missed: they lie at or below `sp`, on stack that has been given
/// back, for an inner poll's stack pointer is always below the outer one's.
#[inline(never)]
pub fn drop_missed(thread: &mut Thread, sp: u64) {
    for _ in 0..MAX_DEPTH {
        if thread
            .innermost()
            .is_none_or(|poll| poll.stack_pointer > sp)
        {
            return;
        }
        thread.depth -= 1;
        count(thread.target, Counter::UnmatchedStart);
    }
}
