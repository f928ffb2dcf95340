//! loopprobe's reports held against the target's own truth.

use anyhow::{Result, ensure};
use loopprobe::model::{LongPoll, TaskKind};

use crate::truth::{self, Poll};

/// How far a report may be from the truth: the probe fires some instructions before and after the
/// target reads its clock.
pub const TOLERANCE_NS: u64 = 20_000;

/// A poll this close below the threshold may be reported: seen from outside it is longer, by up to
/// 90 us on a virtual machine.
const CLOSE_NS: u64 = 100_000;

/// Completing a task may take this long on a busy machine.
const COMPLETION_NS: u64 = 200_000;

/// What a comparison must reach.
#[derive(Clone, Copy, Debug)]
struct Bars {
    /// Half of the starts must be closer than this, in nanoseconds.
    start_ns: u64,
    /// Half of the durations must be closer than this, in nanoseconds. Below 5 us are wanted and,
    /// on a quiet machine, reached; the rest is room for the noise of a virtual one.
    duration_ns: u64,
    /// The share of the reports that may be out of tolerance without a preemption that the target
    /// saw: a hypervisor and interrupts can also come between the two clocks, and the target cannot
    /// know.
    unexplained: f64,
}

impl Bars {
    const QUIET: Bars = Bars {
        start_ns: 5_000,
        duration_ns: 8_000,
        unexplained: 0.1,
    };
    /// With other programs on every CPU, a thread that wakes finds its caches gone: between the
    /// clocks lie the same few instructions, but they take longer, and interrupts come between.
    const BUSY: Bars = Bars {
        start_ns: TOLERANCE_NS,
        duration_ns: TOLERANCE_NS,
        unexplained: 0.25,
    };
    /// Entry-only timing: what the scheduler does behind a poll counts as the poll's, so that no
    /// duration has to be within the tolerance.
    const LIGHT: Bars = Bars {
        start_ns: 5_000,
        duration_ns: 2 * TOLERANCE_NS,
        unexplained: 1.0,
    };
    /// A machine is busy when some thread waited for a CPU during more than this share of the last
    /// ten seconds, in percent.
    const BUSY_PERCENT: f64 = 25.0;

    /// The given ones, or lower ones if the machine is busy.
    fn now(quiet: Bars) -> Bars {
        let pressure = cpu_pressure().unwrap_or(0.0);
        if pressure <= Self::BUSY_PERCENT {
            return quiet;
        }
        eprintln!(
            "other programs are waiting for a CPU {pressure} % of the time: the bars are lower"
        );
        Bars {
            start_ns: quiet.start_ns.max(Self::BUSY.start_ns),
            duration_ns: quiet.duration_ns.max(Self::BUSY.duration_ns),
            unexplained: quiet.unexplained.max(Self::BUSY.unexplained),
        }
    }
}

/// The share of the last ten seconds in which some thread waited for a CPU, in percent
/// (`/proc/pressure/cpu`).
fn cpu_pressure() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let (_, rest) = text.split_once("avg10=")?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// How the reports of a session compare with the truth.
#[derive(Debug, Default)]
pub struct Comparison {
    /// True polls over the threshold, each with exactly one report.
    pub matched: usize,
    /// Distances of starts and durations, in nanoseconds, sorted.
    pub start_errors: Vec<u64>,
    /// Distances of durations, in nanoseconds, sorted; of polls that completed their task only if
    /// there are no others: what Tokio does after the target's last look at its clock belongs to
    /// them.
    pub duration_errors: Vec<u64>,
    completing_errors: Vec<u64>,
    /// Reports out of tolerance with a reason: the thread was preempted beside the poll, or Tokio
    /// completed the task at its end (it drops the future and wakes who waits for it, after the
    /// target's last look at its clock).
    pub explained: Vec<String>,
    /// Reports out of tolerance without such a reason.
    pub unexplained: Vec<String>,
}

/// Compares the polls of kind `kind` (`async` or `root`) of at least `threshold_ns`.
///
/// Every poll that is over the threshold by more than the tolerance must have one report, with its
/// thread and task; every report must have a true poll that is not under the threshold by more than
/// the tolerance.
///
/// # Errors
/// With the first poll that has no report, or report that has no poll.
pub fn compare(
    truth: &[Poll],
    reports: &[LongPoll],
    kind: &str,
    threshold_ns: u64,
) -> Result<Comparison> {
    let disturbed = truth::disturbed(truth);
    let wanted = if kind == "root" {
        TaskKind::Root
    } else {
        TaskKind::Async
    };
    let mut reports: Vec<&LongPoll> = reports
        .iter()
        .filter(|poll| poll.ended && poll.task.kind == wanted)
        .collect();
    let mut result = Comparison::default();
    for (poll, disturbed) in truth
        .iter()
        .zip(disturbed)
        .filter(|(poll, _)| poll.kind == kind && !is_container(poll, truth))
    {
        let found = reports.iter().position(|report| is_same(poll, report));
        if poll.duration_ns() < threshold_ns {
            // Close to the threshold both answers are right; a preemption beside the poll belongs
            // to it from outside.
            let close = disturbed || poll.duration_ns() + CLOSE_NS >= threshold_ns;
            ensure!(
                found.is_none() || close,
                "reported although under the threshold: {poll:?}"
            );
            found.map(|index| reports.remove(index));
            continue;
        }
        // Waiting for a CPU does not make a root future's poll long.
        let waited = kind == "root" && (1..threshold_ns).contains(&poll.asked_ns);
        ensure!(
            found.is_some() || waited,
            "no report of {poll:?}; of the same task: {:?}",
            same_task(poll, &reports)
        );
        if let Some(index) = found {
            result.add(poll, reports.remove(index), disturbed);
        }
    }
    let unknown: Vec<_> = reports
        .iter()
        .filter(|report| !only_waited_for_cpu(report))
        .collect();
    ensure!(
        unknown.is_empty(),
        "reports of polls that never were: {unknown:?}"
    );
    if result.duration_errors.is_empty() {
        result.duration_errors.append(&mut result.completing_errors);
    }
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

/// Whether other polls ran inside this one: a `LocalSet` that is polled as a root future. The
/// tasks' polls count then.
fn is_container(poll: &Poll, truth: &[Poll]) -> bool {
    poll.kind == "root"
        && truth.iter().any(|inner| {
            inner.kind == "async"
                && inner.tid == poll.tid
                && inner.start_ns >= poll.start_ns
                && inner.end_ns <= poll.end_ns
        })
}

/// Whether the loop's own turn between two polls was preempted. It is told from a root future by
/// nothing but its cause, and the target does not know of it.
fn only_waited_for_cpu(report: &LongPoll) -> bool {
    report.task.kind == TaskKind::Root
        && report
            .split
            .is_some_and(|split| split.runnable_ns * 10 > report.duration_ns * 9)
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
        let errors = if poll.ready {
            &mut self.completing_errors
        } else {
            &mut self.duration_errors
        };
        errors.push(duration);
        if start.max(duration) > TOLERANCE_NS {
            let text = format!(
                "{} task {:?}: start off by {start} ns, duration by {duration} ns",
                poll.label, poll.task_id
            );
            let completing = poll.ready && start <= TOLERANCE_NS && duration < COMPLETION_NS;
            if disturbed || completing {
                self.explained.push(text);
            } else {
                self.unexplained.push(text);
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
        self.hold(what, Bars::now(Bars::QUIET))
    }

    /// The same for entry-only timing.
    ///
    /// # Errors
    /// When a bar is missed.
    pub fn check_light(&self, what: &str) -> Result<()> {
        self.hold(what, Bars::now(Bars::LIGHT))
    }

    fn hold(&self, what: &str, bars: Bars) -> Result<()> {
        let (start, duration) = self.medians();
        let last = |values: &[u64]| values.last().copied().unwrap_or(0);
        eprintln!(
            "{what}: {} polls; start off by {start} ns (median), {} ns (max); duration by {duration} ns, {} ns; out of tolerance: {} \
             with a reason, {} without one",
            self.matched,
            last(&self.start_errors),
            last(&self.duration_errors),
            self.explained.len(),
            self.unexplained.len(),
        );
        ensure!(self.matched > 0, "{what}: nothing to compare");
        ensure!(
            start < bars.start_ns && duration < bars.duration_ns,
            "{what}: the median is off by {start} and {duration} ns"
        );
        let allowed = (self.matched as f64 * bars.unexplained).ceil() as usize;
        ensure!(
            self.unexplained.len() <= allowed,
            "{what}: out of tolerance: {:?}",
            self.unexplained
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic;

    const MS: u64 = 1_000_000;

    fn truth(start_ns: u64, duration_ns: u64) -> Poll {
        Poll {
            label: "a".to_owned(),
            kind: "async".to_owned(),
            task_id: Some(5),
            tid: 7,
            start_ns,
            end_ns: start_ns + duration_ns,
            cpu_ns: 0,
            preempted_at_start: 0,
            preempted_at_end: 0,
            ready: false,
            block_in_place: false,
            asked_ns: 0,
        }
    }

    fn report(start_ns: u64, duration_ns: u64) -> LongPoll {
        LongPoll {
            task_id: Some(5),
            start_ns,
            duration_ns,
            ..synthetic::poll(synthetic::task("a::b", 1), 7, start_ns, Default::default())
        }
    }

    #[test]
    fn an_exact_report_passes() {
        let result = compare(
            &[truth(100, 12 * MS)],
            &[report(98, 12 * MS + 5)],
            "async",
            10 * MS,
        );
        assert!(result.is_ok_and(|result| result.matched == 1 && result.check("exact").is_ok()));
    }

    #[test]
    fn a_missing_report_fails() {
        assert!(compare(&[truth(100, 12 * MS)], &[], "async", 10 * MS).is_err());
    }

    #[test]
    fn a_report_of_nothing_fails() {
        assert!(compare(&[], &[report(98, 12 * MS)], "async", 10 * MS).is_err());
    }

    #[test]
    fn a_second_report_of_one_poll_fails() {
        let reports = [report(98, 12 * MS), report(98, 12 * MS)];
        assert!(compare(&[truth(100, 12 * MS)], &reports, "async", 10 * MS).is_err());
    }

    #[test]
    fn a_report_under_the_threshold_fails() {
        assert!(
            compare(
                &[truth(100, 9 * MS)],
                &[report(98, 9 * MS)],
                "async",
                10 * MS
            )
            .is_err()
        );
    }

    #[test]
    fn another_task_or_thread_fails() {
        let other_task = LongPoll {
            task_id: Some(6),
            ..report(98, 12 * MS)
        };
        let other_thread = LongPoll {
            tid: 8,
            ..report(98, 12 * MS)
        };
        for wrong in [other_task, other_thread] {
            assert!(compare(&[truth(100, 12 * MS)], &[wrong], "async", 10 * MS).is_err());
        }
    }

    #[test]
    fn an_inexact_report_misses_the_bars() {
        let truths = [truth(100, 12 * MS), truth(20 * MS, 12 * MS)];
        let inexact = |truth: &Poll| report(truth.start_ns, truth.duration_ns() + 30_000);
        let reports: Vec<LongPoll> = truths.iter().map(inexact).collect();
        let result = compare(&truths, &reports, "async", 10 * MS);
        assert!(result.is_ok_and(|result| result.check("inexact").is_err()));
    }
}
