//! The end of a session: what the kernel side has counted.

use loopprobe_common::{
    counters::Counter,
    histogram::{self, BUCKETS, Stats},
    records::PollRecord,
};

use super::groups::Groups;
use crate::{
    attach::{AttachError, DeadTime, Kernel},
    model::{LongPoll, Lost, ProbeCost, Summary, TaskKind, TaskSummary, TaskType},
};

/// What only the session itself knows.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Why it ended.
    pub reason: String,
    /// How long it was.
    pub duration_ns: u64,
    /// Threads that polled.
    pub workers: u64,
    /// Long polls that the kernel side does not count: of root futures, and those open since before the attach or at the end.
    pub unprobed_polls: u64,
    /// Their total.
    pub unprobed_ns: u64,
    /// Long stretches between polls that were, at least in part, outside of any runtime.
    pub outside_runtime: u64,
    /// How long they were outside.
    pub outside_runtime_ns: u64,
    /// Long polls that the kernel side counts and that had ended earlier than it knew, before the threshold.
    pub shorter_polls: u64,
    /// By how much polls were shorter than the kernel side knew.
    pub shorter_ns: u64,
    /// The time of long polls inside other long ones.
    pub nested_ns: u64,
    /// Nanoseconds a poll that the probes add.
    pub ns_per_poll: Option<f64>,
    /// What was taken off long polls.
    pub dead_time: DeadTime,
    /// Long polls by cause.
    pub groups: Groups,
    /// What user space has lost.
    pub lost: Lost,
}

impl Totals {
    /// Takes over that a poll ended at `left_ns`, if it did so before the kernel side knew. `false` if it is no long poll then.
    pub fn shorten(
        &mut self,
        record: &mut PollRecord,
        left_ns: Option<u64>,
        threshold_ns: u64,
    ) -> bool {
        let Some(left_ns) = left_ns.filter(|left_ns| *left_ns < record.end_ns) else {
            return true;
        };
        let start_ns = record.poll.start_ns;
        let is_long = left_ns.saturating_sub(start_ns) >= threshold_ns;
        if !is_long {
            self.shorter_polls += 1;
        }
        self.shorter_ns += record.end_ns - if is_long { left_ns } else { start_ns };
        record.end_ns = left_ns;
        is_long
    }

    /// Counts a long poll of which probes have seen the beginning or the end at most.
    pub fn count_unprobed(&mut self, poll: &LongPoll) {
        self.groups.add(poll);
        self.unprobed_polls += 1;
        self.unprobed_ns += poll.duration_ns;
    }
}

/// Reads the tables.
///
/// # Errors
///
/// [`AttachError::Map`].
pub fn summarize(
    kernel: &Kernel,
    types: &[TaskType],
    totals: Totals,
) -> Result<Summary, AttachError> {
    let mut all = Stats::default();
    let mut tasks = Vec::new();
    let mut blocking_polls = 0;
    for (index, task) in types.iter().enumerate() {
        let stats = kernel.stats(index as u32)?;
        if stats.polls == 0 {
            continue;
        }
        if task.kind == TaskKind::Blocking {
            blocking_polls += stats.polls;
        } else {
            all.add(&stats);
        }
        tasks.push((task, stats));
    }
    let mut tasks = merge(tasks);
    tasks.sort_by_key(|t| std::cmp::Reverse((t.total_ns, t.polls)));
    let polls = all.polls;
    let long_ns = (all.long_ns + totals.unprobed_ns).saturating_sub(totals.shorter_ns);
    let lost = lost(kernel, &totals)?;
    Ok(Summary {
        reason: totals.reason,
        duration_ns: totals.duration_ns,
        polls: Some(polls),
        blocking_polls: Some(blocking_polls),
        p50_ns: Some(quantile(&all, 0.50)),
        p99_ns: Some(quantile(&all, 0.99)),
        max_ns: Some(all.max_ns),
        long_polls: (all.long + totals.unprobed_polls).saturating_sub(totals.shorter_polls),
        long_ns,
        worker_ns: Some(long_ns.saturating_sub(totals.nested_ns)),
        workers: Some(totals.workers),
        outside_runtime: totals.outside_runtime,
        outside_runtime_ns: totals.outside_runtime_ns,
        lost: Some(lost),
        cost: totals.ns_per_poll.map(|ns| ProbeCost {
            ns_per_poll: ns,
            total_ns: (ns * polls as f64) as u64,
            dead_start_ns: totals.dead_time.start_ns,
            dead_end_ns: totals.dead_time.end_ns,
        }),
        tasks,
        groups: totals.groups.ranked(),
        no_polls: None,
    })
}

/// One entry a type: each future is instantiated for two schedulers, and both have the same name.
fn merge(tasks: Vec<(&TaskType, Stats)>) -> Vec<TaskSummary> {
    let mut merged: Vec<(&TaskType, Stats)> = Vec::new();
    for (task, stats) in tasks {
        match merged.iter_mut().find(|(other, _)| *other == task) {
            Some((_, sum)) => sum.add(&stats),
            None => merged.push((task, stats)),
        }
    }
    merged
        .into_iter()
        .map(|(task, stats)| TaskSummary {
            task: task.clone(),
            polls: Some(stats.polls),
            total_ns: Some(stats.total_ns),
            p50_ns: Some(quantile(&stats, 0.50)),
            p99_ns: Some(quantile(&stats, 0.99)),
            max_ns: stats.max_ns,
            long: stats.long,
        })
        .collect()
}

/// The duration that a share of the polls does not exceed: the middle of its bucket, but never more than the maximum.
fn quantile(stats: &Stats, share: f64) -> u64 {
    let total: u64 = stats.buckets.iter().map(|n| u64::from(*n)).sum();
    let rank = ((total as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    for (bucket, n) in stats.buckets.iter().enumerate() {
        seen += u64::from(*n);
        if seen >= rank {
            let (low, high) = histogram::bounds(bucket);
            let middle = if bucket == BUCKETS - 1 {
                low
            } else {
                low + (high - low) / 2
            };
            return middle.min(stats.max_ns);
        }
    }
    0
}

fn lost(kernel: &Kernel, totals: &Totals) -> Result<Lost, AttachError> {
    let own = totals.lost;
    Ok(Lost {
        events: own.events + kernel.counter(Counter::EventLost)?,
        too_deep: kernel.counter(Counter::TooDeep)?,
        unmatched_ends: kernel.counter(Counter::UnmatchedEnd)?,
        unmatched_starts: kernel.counter(Counter::UnmatchedStart)?,
        threads: kernel.counter(Counter::ThreadLost)?,
        unknown_types: kernel.counter(Counter::UnknownType)?,
        unreadable: kernel.counter(Counter::Unreadable)?,
        thread_exits: kernel.counter(Counter::ThreadExit)?,
        switches: kernel.counter(Counter::SwitchLost)?,
        undecided: own.undecided + kernel.counter(Counter::Undecided)?,
        stacks: own.stacks + kernel.counter(Counter::StackLost)?,
        ..own
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(durations: &[u64]) -> Stats {
        let mut stats = Stats::default();
        for &ns in durations {
            stats.polls += 1;
            stats.max_ns = stats.max_ns.max(ns);
            stats.buckets[histogram::bucket(ns)] += 1;
        }
        stats
    }

    #[test]
    fn quantiles_are_within_an_eighth() {
        let durations: Vec<u64> = (1..=1000).map(|i| i * 1000).collect();
        let stats = stats(&durations);
        for (share, truth) in [(0.5, 500_000.0), (0.99, 990_000.0)] {
            let error = (quantile(&stats, share) as f64 - truth).abs() / truth;
            assert!(error <= 0.126, "{share}: {error}");
        }
    }

    #[test]
    fn a_quantile_never_exceeds_the_maximum() {
        assert_eq!(quantile(&stats(&[4097]), 0.99), 4097);
        assert_eq!(quantile(&stats(&[]), 0.5), 0);
    }
}
