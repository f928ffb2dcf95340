//! loopprobe's reports held against the target's own truth.

use anyhow::{Result, ensure};
use loopprobe::model::{LongPoll, TaskKind};

use crate::session::Report;
use crate::truth::{self, Poll};

/// How far a report may be from the truth: the probe fires some instructions before and after the target reads its clock.
pub const TOLERANCE_NS: u64 = 20_000;
/// Half of the reports must be closer than this.
pub const MEDIAN_NS: u64 = 5_000;
/// A hypervisor and interrupts can also come between the two clocks, and the target cannot know: this share of the
/// reports may be off without a preemption that the target saw.
const UNEXPLAINED: f64 = 0.01;

/// How the reports of a session compare with the truth.
#[derive(Debug, Default)]
pub struct Comparison {
    /// True polls over the threshold, each with exactly one report.
    pub matched: usize,
    /// Distances of starts and durations, in nanoseconds, sorted.
    pub start_errors: Vec<u64>,
    /// Distances of durations, in nanoseconds, sorted.
    pub duration_errors: Vec<u64>,
    /// Reports out of tolerance whose thread was preempted beside the poll.
    pub disturbed: Vec<String>,
    /// Reports out of tolerance without such a reason.
    pub unexplained: Vec<String>,
}

/// Compares the polls of kind `kind` (`async` or `root`) of at least `threshold_ns`.
///
/// Every poll that is over the threshold by more than the tolerance must have one report, with its thread and task; every
/// report must have a true poll that is not under the threshold by more than the tolerance.
///
/// # Errors
/// With the first poll that has no report, or report that has no poll.
pub fn compare(
    truth: &[Poll],
    report: &Report,
    kind: &str,
    threshold_ns: u64,
) -> Result<Comparison> {
    let disturbed = truth::disturbed(truth);
    let wanted = if kind == "root" {
        TaskKind::Root
    } else {
        TaskKind::Async
    };
    let mut reports: Vec<&LongPoll> = report
        .ended()
        .into_iter()
        .filter(|poll| poll.task.kind == wanted)
        .collect();
    let mut result = Comparison::default();
    for (poll, disturbed) in truth
        .iter()
        .zip(disturbed)
        .filter(|(poll, _)| poll.kind == kind)
    {
        let found = reports.iter().position(|report| is_same(poll, report));
        if poll.duration_ns() < threshold_ns {
            // Close to the threshold both answers are right; a preemption beside the poll belongs to it from outside.
            let close = disturbed || poll.duration_ns() + TOLERANCE_NS >= threshold_ns;
            ensure!(
                found.is_none() || close,
                "reported although under the threshold: {poll:?}"
            );
            found.map(|index| reports.remove(index));
            continue;
        }
        let Some(index) = found else {
            anyhow::bail!(
                "no report of {poll:?}; of the same task: {:?}",
                same_task(poll, &reports)
            );
        };
        result.add(poll, reports.remove(index), disturbed);
    }
    ensure!(
        reports.is_empty(),
        "reports of polls that never were: {reports:?}"
    );
    result.start_errors.sort_unstable();
    result.duration_errors.sort_unstable();
    Ok(result)
}

/// Whether `report` is about `poll`: the same thread and task, and most of the time in common.
fn is_same(poll: &Poll, report: &LongPoll) -> bool {
    let end_ns = report.start_ns + report.duration_ns;
    let common = end_ns
        .min(poll.end_ns)
        .saturating_sub(report.start_ns.max(poll.start_ns));
    report.tid == poll.tid
        && report.task_id == poll.task_id
        && common * 2 > poll.duration_ns().max(report.duration_ns)
}

fn same_task<'a>(poll: &Poll, reports: &[&'a LongPoll]) -> Vec<&'a LongPoll> {
    reports
        .iter()
        .filter(|report| report.task_id == poll.task_id)
        .copied()
        .collect()
}

impl Comparison {
    fn add(&mut self, poll: &Poll, report: &LongPoll, disturbed: bool) {
        self.matched += 1;
        let start = poll.start_ns.abs_diff(report.start_ns);
        let duration = poll.duration_ns().abs_diff(report.duration_ns);
        self.start_errors.push(start);
        self.duration_errors.push(duration);
        if start.max(duration) > TOLERANCE_NS {
            let text = format!(
                "{} task {:?}: start off by {start} ns, duration by {duration} ns",
                poll.label, poll.task_id
            );
            if disturbed {
                self.disturbed.push(text)
            } else {
                self.unexplained.push(text)
            }
        }
    }

    /// The median distance of starts and of durations, in nanoseconds.
    pub fn medians(&self) -> (u64, u64) {
        let median = |values: &[u64]| values.get(values.len() / 2).copied().unwrap_or(0);
        (median(&self.start_errors), median(&self.duration_errors))
    }

    /// Prints the figures and holds them against the bars.
    ///
    /// # Errors
    /// When a bar is missed.
    pub fn check(&self, what: &str) -> Result<()> {
        let (start, duration) = self.medians();
        let last = |values: &[u64]| values.last().copied().unwrap_or(0);
        eprintln!(
            "{what}: {} polls; start off by {start} ns (median), {} ns (max); duration by {duration} ns, {} ns; out of \
             tolerance: {} beside a preemption, {} without one",
            self.matched,
            last(&self.start_errors),
            last(&self.duration_errors),
            self.disturbed.len(),
            self.unexplained.len(),
        );
        ensure!(self.matched > 0, "{what}: nothing to compare");
        ensure!(
            start.max(duration) < MEDIAN_NS,
            "{what}: the median is off by {start} and {duration} ns"
        );
        let allowed = (self.matched as f64 * UNEXPLAINED).ceil() as usize;
        ensure!(
            self.unexplained.len() <= allowed,
            "{what}: out of tolerance: {:?}",
            self.unexplained
        );
        Ok(())
    }
}
