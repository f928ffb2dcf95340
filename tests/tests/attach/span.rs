//! A session ends at one moment: nothing that comes later is counted or reported, and no share
//! exceeds the whole.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::LongPoll;
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::hogs::Hogs;
use loopprobe_tests::matrix::{self, Build, target};
use loopprobe_tests::scenario::{THRESHOLD_NS, gated};
use loopprobe_tests::session::{Report, Session};
use loopprobe_tests::take_machine;
use loopprobe_tests::target::Target;
use loopprobe_tests::truth::Poll;

/// Short, so that what lies beyond the end would weigh much.
const LENGTH: Duration = Duration::from_millis(400);
/// Polls so close to an edge may lie on either side of it: the target reads its clock beside the
/// probes.
const EDGE_NS: u64 = 1_000_000;

/// What else the machine does. On full CPUs the loop's own turns get long, of which the target
/// knows nothing.
#[derive(Clone, Copy)]
enum Load {
    Light,
    Full,
}

/// The span of a session.
struct Span {
    start_ns: u64,
    end_ns: u64,
}

impl Span {
    fn of(report: &Report) -> Self {
        Self {
            start_ns: report.head.start_ns,
            end_ns: report.head.start_ns + report.summary.duration_ns,
        }
    }

    fn holds(&self, poll: &Poll) -> bool {
        poll.start_ns >= self.start_ns && poll.end_ns < self.end_ns
    }

    fn holds_well(&self, poll: &Poll) -> bool {
        poll.start_ns >= self.start_ns + EDGE_NS && poll.end_ns + EDGE_NS < self.end_ns
    }
}

/// Short sessions on one target that goes on polling.
fn sessions(scenario: &str, workers: usize, count: u32, load: Load) -> Result<()> {
    take_machine!();
    matrix::loopprobe()?;
    let mut target = gated(Build::DEFAULT, "truth", &[scenario, "--rounds", "1000000"])?;
    target.send("go")?;
    let length = format!("{}ms", LENGTH.as_millis());
    let mut reports = Vec::new();
    for _ in 0..count {
        reports.push(Session::attach(target.pid(), &["--duration", &length])?.finish()?);
    }
    // One that is interrupted.
    let session = Session::attach(target.pid(), &[])?;
    std::thread::sleep(LENGTH);
    reports.push(session.interrupt()?);
    target.send("dump")?;
    let truth = target.truth()?;
    for (index, report) in reports.iter().enumerate() {
        let planned = index < reports.len() - 1;
        check(&truth, report, workers, planned).with_context(|| format!("session {index}"))?;
        if matches!(load, Load::Light) {
            compare_long(&truth, report).with_context(|| format!("session {index}"))?;
        }
    }
    Ok(())
}

fn check(truth: &[Poll], report: &Report, workers: usize, planned: bool) -> Result<()> {
    let span = Span::of(report);
    let summary = &report.summary;
    if planned {
        ensure!(
            u128::from(summary.duration_ns) == LENGTH.as_nanos(),
            "it lasted {} ns",
            summary.duration_ns
        );
    }
    nothing_lies_beyond(report)?;
    let inside = truth.iter().filter(|poll| span.holds(poll));
    let count = inside.filter(|poll| poll.kind == "async").count() as u64;
    let told = summary.polls.unwrap_or(0);
    ensure!(
        count.abs_diff(told) <= 2 * workers as u64,
        "{count} polls, {told} counted"
    );
    ensure!(count > 5, "the target polled only {count} times");
    let tids: BTreeSet<u32> = truth
        .iter()
        .filter(|poll| poll.kind == "async" && poll.start_ns >= span.start_ns)
        .filter(|poll| poll.start_ns < span.end_ns)
        .map(|poll| poll.tid)
        .collect();
    ensure!(
        summary.workers == Some(tids.len() as u64),
        "{tids:?} polled, {:?} workers",
        summary.workers
    );
    Ok(())
}

/// Each long poll inside the session has its report, and there is no other report.
fn compare_long(truth: &[Poll], report: &Report) -> Result<()> {
    let span = Span::of(report);
    let (inside, edges): (Vec<Poll>, Vec<Poll>) = truth
        .iter()
        .cloned()
        .partition(|poll| span.holds_well(poll));
    let is_of = |poll: &Poll, report: &LongPoll| {
        let end_ns = poll.end_ns.min(report.start_ns + report.duration_ns);
        let common = end_ns.saturating_sub(poll.start_ns.max(report.start_ns));
        poll.tid == report.tid && common * 2 > report.duration_ns
    };
    let mut reports = report.polls.clone();
    reports.retain(|report| !edges.iter().any(|poll| is_of(poll, report)));
    for kind in ["async", "root"] {
        let compared = compare(&inside, &reports, kind, THRESHOLD_NS)?;
        eprintln!("{kind}: {} long polls", compared.matched);
    }
    Ok(())
}

fn nothing_lies_beyond(report: &Report) -> Result<()> {
    let span = Span::of(report);
    for poll in &report.polls {
        ensure!(
            poll.start_ns >= span.start_ns && poll.start_ns + poll.duration_ns <= span.end_ns,
            "beyond {}..{}: {poll:?}",
            span.start_ns,
            span.end_ns
        );
    }
    let summary = &report.summary;
    let available = summary.workers.unwrap_or(0) * summary.duration_ns;
    let taken = summary.worker_ns.context("no time of workers")?;
    ensure!(
        taken <= available,
        "{taken} ns of {available} ns of {:?} workers",
        summary.workers
    );
    Ok(())
}

#[test]
fn a_loop_on_one_thread() -> Result<()> {
    sessions("root", 1, 5, Load::Light)?;
    sessions("current_thread", 1, 3, Load::Light)
}

#[test]
fn workers() -> Result<()> {
    sessions("sleep", 2, 5, Load::Light)
}

#[test]
fn on_full_cpus() -> Result<()> {
    let _hogs = Hogs::start()?;
    sessions("root", 1, 3, Load::Full)?;
    sessions("sleep", 2, 3, Load::Full)
}

#[test]
fn all_workers_stuck() -> Result<()> {
    take_machine!();
    matrix::loopprobe()?;
    let path = target(Build::DEFAULT, "stuck")?;
    for scenario in ["all_block", "all_spin"] {
        let target = Target::start(&path, &[scenario, "--millis", "8000", "--hold"])?;
        let report = Session::attach(target.pid(), &["--duration", "2500ms"])?.finish()?;
        nothing_lies_beyond(&report)?;
        let summary = &report.summary;
        ensure!(summary.workers == Some(2), "{scenario}: {summary:?}");
        ensure!(
            summary.long_polls == 2 && summary.long_ns > 2 * 2_000_000_000,
            "{scenario}: {summary:?}"
        );
    }
    Ok(())
}

#[test]
fn polls_inside_a_long_poll_take_no_more_of_a_worker() -> Result<()> {
    take_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["nested", "--rounds", "1000000"])?;
    target.send("go")?;
    let report = Session::attach(target.pid(), &["--duration", "2s"])?.finish()?;
    nothing_lies_beyond(&report)?;
    let summary = &report.summary;
    ensure!(
        summary.worker_ns < Some(summary.long_ns),
        "no poll was inside another: {summary:?}"
    );
    Ok(())
}
