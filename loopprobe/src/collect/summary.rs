//! The end of a session: what the kernel side has counted.

use loopprobe_common::{counters::Counter, histogram::Stats};

use super::{
    bill::{Prices, bill},
    corrections::{Correction, Corrections},
    coverage::{Roots, coverage},
    delays::{self, Delays},
    groups::Groups,
    quantile::quantile,
};
use crate::{
    attach::{AttachError, DeadTime, Kernel, Plan},
    model::{
        Budget, Canary, Distribution, FindingCount, LongPoll, Looks, Lost, ProbeCost, Summary,
        TaskKind, TaskSummary, TaskType,
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
    /// Where types are timed exactly for a while: how much.
    pub looks: Looks,
    /// Whether that is so.
    pub probes_at_times: bool,
    /// What sessions beside this one have cost and lost, and kernel sides that this one had before.
    pub spent: (ProbeCost, Lost),
    /// How many of the polls that are counted, and of loopprobe's own blocks, are in that cost.
    pub billed: u64,
    /// What user space has lost.
    pub lost: Lost,
    /// loopprobe's own check.
    pub canary: Option<Canary>,
    /// What was left out to keep to a budget.
    pub budget: Option<Budget>,
    /// What is seen of futures given to `block_on`.
    pub roots: Roots,
}

impl Totals {
    /// Adds what a session beside this one has cost and lost.
    pub(super) fn spend(&mut self, summary: &Summary) {
        self.spent.0.add(&summary.cost.unwrap_or_default());
        self.spent.1.add(&summary.lost.unwrap_or_default());
    }

    /// Adds a time in which types were timed exactly; long polls are counted as they are told of:
    /// the summary has those that were open when it ended.
    pub(super) fn count_look(&mut self, summary: &Summary) {
        self.looks.count += 1;
        self.looks.duration_ns += summary.duration_ns;
        self.looks.polls += summary.polls.unwrap_or(0);
        self.spend(summary);
    }

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
    let Polls {
        all,
        delays,
        blocking: blocking_polls,
        tasks,
        fired,
    } = polls(kernel, plan)?;
    let wake_to_poll = match delays {
        Some(stats) => Some(Box::new(Delays::of(kernel, &stats)?.figures())),
        None => None,
    };
    let polls = all.polls;
    let (cost, lost) = spent(kernel, &totals, polls)?;
    let max_ns = all.max_ns.max(totals.corrections.longest_ns);
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
        max_ns: is_counted.then_some(max_ns),
        possible_long_polls: totals.possible,
        looks: totals.probes_at_times.then(|| Box::new(totals.looks)),
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
        coverage: is_counted.then(|| Box::new(coverage(plan, &fired, totals.roots))),
        wake_to_poll,
        tasks: rows.into_iter().map(|row| row.task).collect(),
        groups: totals.groups.ranked(),
        findings: totals.findings,
        no_polls: None,
        threads: Vec::new(),
    };
    Ok((summary, Distribution::from(&all)))
}

/// What the kernel side has counted.
struct Polls<'a> {
    /// Of async tasks.
    all: Stats,
    /// From wake to poll, where that is measured.
    delays: Option<Box<Stats>>,
    /// Closures of the blocking pool.
    blocking: u64,
    tasks: Vec<Counted<'a>>,
    /// By type: whether it was polled.
    fired: Vec<bool>,
}

fn polls<'a>(kernel: &Kernel, plan: &'a Plan) -> Result<Polls<'a>, AttachError> {
    let mut polls = Polls {
        all: Stats::default(),
        delays: kernel.has_lag().then(Box::default),
        blocking: 0,
        tasks: Vec::new(),
        fired: vec![false; plan.types.len()],
    };
    for (index, task) in plan.types.iter().enumerate() {
        let (stats, mut delays) = (kernel.stats(index as u32)?, Stats::default());
        if let Some(all) = polls
            .delays
            .as_mut()
            .filter(|_| task.kind != TaskKind::Blocking)
        {
            delays = kernel.delays(index as u32)?;
            all.add(&delays);
        }
        polls.fired[index] = stats.polls > 0;
        if stats.polls == 0 {
            continue;
        }
        if task.kind == TaskKind::Blocking {
            polls.blocking += stats.polls;
        } else {
            polls.all.add(&stats);
        }
        polls.tasks.push(Counted {
            task,
            stats,
            delays,
        });
    }
    Ok(polls)
}

/// What the session has cost and lost in all.
fn spent(
    kernel: &Kernel,
    totals: &Totals,
    polls: u64,
) -> Result<(Option<ProbeCost>, Lost), AttachError> {
    let mut cost = cost(kernel, totals, polls)?;
    if let Some(cost) = &mut cost {
        cost.add(&totals.spent.0);
    }
    let mut lost = totals.lost;
    lost.add(&lost_by(kernel)?);
    lost.add(&totals.spent.1);
    Ok((cost, lost))
}

/// Blocks of loopprobe's own are paid for too.
fn cost(kernel: &Kernel, totals: &Totals, polls: u64) -> Result<Option<ProbeCost>, AttachError> {
    let Some(prices) = totals.prices else {
        return Ok(None);
    };
    let blocks = totals.canary.as_ref().map_or(0, |canary| canary.checks);
    let polls = (polls + blocks).saturating_sub(totals.billed);
    bill(kernel, prices, polls, totals.dead_time).map(Some)
}

/// Adds what a kernel side has cost and lost that goes, while its counts of polls are carried on.
///
/// # Errors
///
/// [`AttachError::Map`].
pub(super) fn spent_by(
    kernel: &Kernel,
    plan: &Plan,
    totals: &mut Totals,
) -> Result<(), AttachError> {
    let polls = polls(kernel, plan)?.all.polls;
    if let Some(cost) = cost(kernel, totals, polls)? {
        totals.spent.0.add(&cost);
    }
    totals.spent.1.add(&lost_by(kernel)?);
    totals.billed = polls + totals.canary.as_ref().map_or(0, |canary| canary.checks);
    Ok(())
}

/// What the kernel side has counted of a type.
struct Counted<'a> {
    task: &'a TaskType,
    stats: Stats,
    /// From wake to poll, where that is measured.
    delays: Stats,
}

/// One entry a type: each future is instantiated for two schedulers, and both have the same name.
fn merge(tasks: Vec<Counted<'_>>) -> Vec<Counted<'_>> {
    let mut merged: Vec<Counted<'_>> = Vec::new();
    for one in tasks {
        match merged.iter_mut().find(|other| other.task == one.task) {
            Some(sum) => {
                sum.stats.add(&one.stats);
                sum.delays.add(&one.delays);
            }
            None => merged.push(one),
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
fn rows(counted: Vec<Counted<'_>>, mut corrections: Corrections) -> Vec<TaskRow> {
    let mut rows: Vec<TaskRow> = counted
        .into_iter()
        .map(|counted| {
            let correction = corrections.take(counted.task);
            counted_row(&counted, correction)
        })
        .collect();
    rows.extend(
        corrections
            .rest()
            .map(|(task, correction)| uncounted_row(task, correction)),
    );
    rows.sort_by_key(|row| std::cmp::Reverse((row.task.total_ns, row.task.polls, row.long_ns)));
    rows
}

fn counted_row(counted: &Counted<'_>, correction: Correction) -> TaskRow {
    let Counted {
        task,
        stats,
        delays,
    } = counted;
    TaskRow {
        task: TaskSummary {
            task: (*task).clone(),
            polls: Some(stats.polls),
            total_ns: Some(correction.total_ns(stats.total_ns)),
            p50_ns: Some(quantile(stats, 0.50)),
            p99_ns: Some(quantile(stats, 0.99)),
            max_ns: stats.max_ns.max(correction.max_ns),
            long: correction.polls(stats.long),
            wake_to_poll: (delays.polls > 0).then(|| delays::figures(delays)),
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
            wake_to_poll: None,
        },
        long_ns: correction.ns(0),
    }
}

/// What a kernel side has lost.
fn lost_by(kernel: &Kernel) -> Result<Lost, AttachError> {
    Ok(Lost {
        events: kernel.counter(Counter::EventLost)?,
        too_deep: kernel.counter(Counter::TooDeep)?,
        unmatched_ends: kernel.counter(Counter::UnmatchedEnd)?,
        unmatched_starts: kernel.counter(Counter::UnmatchedStart)?,
        threads: kernel.counter(Counter::ThreadLost)?,
        unknown_types: kernel.counter(Counter::UnknownType)?,
        unreadable: kernel.counter(Counter::Unreadable)?,
        thread_exits: kernel.counter(Counter::ThreadExit)?,
        switches: kernel.counter(Counter::SwitchLost)?,
        undecided: kernel.counter(Counter::Undecided)?,
        stacks: kernel.counter(Counter::StackLost)?,
        wakes: kernel.counter(Counter::WakeLost)?,
        ..Lost::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_long_poll_is_in_a_row() {
        let counted = TaskType::unknown(1);
        let other = TaskType::unknown(2);
        let of_two = Stats {
            polls: 5,
            long: 2,
            long_ns: 30,
            total_ns: 33,
            max_ns: 20,
            ..Stats::default()
        };
        let mut corrections = Corrections::default();
        corrections.find_long(&counted, 40, 2);
        corrections.remove(&counted, 10, 1);
        corrections.shorten(&counted, 5);
        corrections.add(&other, 7);
        let counted_of_two = Counted {
            task: &counted,
            stats: of_two,
            delays: Stats::default(),
        };
        let rows = rows(vec![counted_of_two], corrections);
        let of = |task: &TaskType| {
            let row = rows.iter().find(|row| row.task.task == *task);
            row.map(|row| (row.task.polls, row.task.long, row.task.max_ns, row.long_ns))
        };
        assert_eq!(of(&counted), Some((Some(5), 2, 40, 55)));
        // The short ones are still in it.
        assert_eq!(rows[0].task.total_ns, Some(33 + 40 - 2 - 9 - 5));
        assert_eq!(of(&other), Some((None, 1, 7, 7)));
    }
}
