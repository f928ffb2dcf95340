//! The end of a session: what the kernel side has counted.

use loopprobe_common::{
    counters::Counter,
    histogram::{self, BUCKETS, Stats},
};

use super::{
    bill::{Prices, bill},
    corrections::{Correction, Corrections},
    coverage::coverage,
    groups::Groups,
};
use crate::{
    attach::{AttachError, DeadTime, Kernel, Plan},
    model::{
        Budget, Canary, Distribution, FindingCount, LongPoll, Lost, ProbeCost, Summary, TaskKind,
        TaskSummary, TaskType,
    },
};

/// What only the session itself knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    /// Why it ended.
    pub reason: String,
    /// How long it was.
    pub duration_ns: u64,
    /// Threads that polled.
    pub workers: u64,
    /// Long stretches between polls that were, at least in part, outside of any runtime.
    pub outside_runtime: u64,
    /// How long they were outside.
    pub outside_runtime_ns: u64,
    /// The time of long polls inside other long ones.
    pub nested_ns: u64,
    /// Long polls that the kernel side does not count, or counts otherwise.
    pub corrections: Corrections,
    /// What probes cost.
    pub prices: Option<Prices>,
    /// What was taken off long polls.
    pub dead_time: DeadTime,
    /// Long polls by cause.
    pub groups: Groups,
    /// What was found wrong.
    pub findings: Vec<FindingCount>,
    /// Where polls are watched instead of timed: how often one may have been long, but is not for
    /// certain.
    pub possible: Option<u64>,
    /// What user space has lost.
    pub lost: Lost,
    /// loopprobe's own check.
    pub canary: Option<Canary>,
    /// What was left out to keep to a budget.
    pub budget: Option<Budget>,
    /// Whether futures given to `block_on` are covered.
    pub root_future: bool,
}

impl Totals {
    /// Counts a long poll that the kernel side does not count.
    pub(super) fn count_unprobed(&mut self, poll: &LongPoll) {
        self.groups.add(poll);
        self.corrections.add(&poll.task, poll.duration_ns);
    }
}

/// Reads the tables. The distribution is that of all async polls.
///
/// # Errors
///
/// [`AttachError::Map`].
pub(super) fn summarize(
    kernel: &Kernel,
    plan: &Plan,
    totals: Totals,
) -> Result<(Summary, Distribution), AttachError> {
    let mut all = Stats::default();
    let mut tasks = Vec::new();
    let mut blocking_polls = 0;
    let mut fired = vec![false; plan.types.len()];
    for (index, task) in plan.types.iter().enumerate() {
        let stats = kernel.stats(index as u32)?;
        fired[index] = stats.polls > 0;
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
    let polls = all.polls;
    let lost = lost(kernel, &totals)?;
    let cost = cost(kernel, &totals, polls)?;
    let rows = rows(merge(tasks), totals.corrections);
    let long_ns: u64 = rows.iter().map(|row| row.long_ns).sum();
    let is_counted = totals.possible.is_none();
    let summary = Summary {
        reason: totals.reason,
        duration_ns: totals.duration_ns,
        polls: is_counted.then_some(polls),
        blocking_polls: is_counted.then_some(blocking_polls),
        p50_ns: is_counted.then(|| quantile(&all, 0.50)),
        p99_ns: is_counted.then(|| quantile(&all, 0.99)),
        max_ns: is_counted.then_some(all.max_ns),
        possible_long_polls: totals.possible,
        long_polls: rows.iter().map(|row| row.task.long).sum(),
        long_ns,
        worker_ns: Some(long_ns.saturating_sub(totals.nested_ns)),
        workers: is_counted.then_some(totals.workers),
        outside_runtime: totals.outside_runtime,
        outside_runtime_ns: totals.outside_runtime_ns,
        lost: Some(lost),
        cost,
        canary: totals.canary,
        budget: totals.budget.map(Box::new),
        coverage: is_counted.then(|| coverage(plan, &fired, totals.root_future)),
        tasks: rows.into_iter().map(|row| row.task).collect(),
        groups: totals.groups.ranked(),
        findings: totals.findings,
        no_polls: None,
        threads: Vec::new(),
    };
    Ok((summary, Distribution::from(&all)))
}

/// Blocks of loopprobe's own are paid for too.
fn cost(kernel: &Kernel, totals: &Totals, polls: u64) -> Result<Option<ProbeCost>, AttachError> {
    let Some(prices) = totals.prices else {
        return Ok(None);
    };
    let polls = polls + kernel.canary_polls()?;
    bill(kernel, prices, polls, totals.dead_time).map(Some)
}

/// One entry a type: each future is instantiated for two schedulers, and both have the same name.
fn merge(tasks: Vec<(&TaskType, Stats)>) -> Vec<(&TaskType, Stats)> {
    let mut merged: Vec<(&TaskType, Stats)> = Vec::new();
    for (task, stats) in tasks {
        match merged.iter_mut().find(|(other, _)| *other == task) {
            Some((_, sum)) => sum.add(&stats),
            None => merged.push((task, stats)),
        }
    }
    merged
}

/// A task type in the summary.
struct TaskRow {
    task: TaskSummary,
    /// The total of its long polls, in nanoseconds.
    long_ns: u64,
}

/// Every long poll is in one of the rows, also those that no probe has counted. Most total time
/// comes first.
fn rows(counted: Vec<(&TaskType, Stats)>, mut corrections: Corrections) -> Vec<TaskRow> {
    let mut rows: Vec<TaskRow> = counted
        .into_iter()
        .map(|(task, stats)| counted_row(task, &stats, corrections.take(task)))
        .collect();
    rows.extend(
        corrections
            .rest()
            .map(|(task, correction)| uncounted_row(task, correction)),
    );
    rows.sort_by_key(|row| std::cmp::Reverse((row.task.total_ns, row.task.polls, row.long_ns)));
    rows
}

fn counted_row(task: &TaskType, stats: &Stats, correction: Correction) -> TaskRow {
    TaskRow {
        task: TaskSummary {
            task: task.clone(),
            polls: Some(stats.polls),
            total_ns: Some(stats.total_ns),
            p50_ns: Some(quantile(stats, 0.50)),
            p99_ns: Some(quantile(stats, 0.99)),
            max_ns: stats.max_ns.max(correction.max_ns),
            long: correction.polls(stats.long),
        },
        long_ns: correction.ns(stats.long_ns),
    }
}

/// A type of which the kernel side has counted no poll: a root future's, or one whose only polls
/// have not ended.
fn uncounted_row(task: TaskType, correction: Correction) -> TaskRow {
    TaskRow {
        task: TaskSummary {
            task,
            polls: None,
            total_ns: None,
            p50_ns: None,
            p99_ns: None,
            max_ns: correction.max_ns,
            long: correction.polls(0),
        },
        long_ns: correction.ns(0),
    }
}

/// The duration that a share of the polls does not exceed: the middle of its bucket, but never more
/// than the maximum.
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

    #[test]
    fn every_long_poll_is_in_a_row() {
        let counted = TaskType::unknown(1);
        let other = TaskType::unknown(2);
        let of_two = Stats {
            polls: 5,
            long: 2,
            long_ns: 30,
            max_ns: 20,
            ..Stats::default()
        };
        let mut corrections = Corrections::default();
        corrections.add(&counted, 40);
        corrections.remove(&counted, 10);
        corrections.shorten(&counted, 5);
        corrections.add(&other, 7);
        let rows = rows(vec![(&counted, of_two)], corrections);
        let of = |task: &TaskType| {
            let row = rows.iter().find(|row| row.task.task == *task);
            row.map(|row| (row.task.polls, row.task.long, row.task.max_ns, row.long_ns))
        };
        assert_eq!(of(&counted), Some((Some(5), 2, 40, 55)));
        assert_eq!(of(&other), Some((None, 1, 7, 7)));
    }
}
