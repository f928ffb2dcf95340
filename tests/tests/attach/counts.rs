//! The summary counts every poll, not only the long ones.

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::TaskKind;
use loopprobe_tests::matrix::Build;
use loopprobe_tests::scenario::{THRESHOLD_NS, gated, observe, run};
use loopprobe_tests::share_machine;

fn check(build: Build) -> Result<()> {
    share_machine!();
    let (truth, report) = run(build, "short", &[])?;
    let polls = truth.iter().filter(|poll| poll.kind == "async").count() as u64;
    ensure!(polls > 10_000, "the target polled only {polls} times");
    ensure!(
        report.summary.polls == Some(polls),
        "{polls} polls, {:?} counted",
        report.summary.polls
    );
    let by_type: u64 = report
        .summary
        .tasks
        .iter()
        .filter(|task| task.task.kind == TaskKind::Async)
        .filter_map(|task| task.polls)
        .sum();
    ensure!(by_type == polls, "{polls} polls, {by_type} in the table");
    Ok(())
}

#[test]
fn every_poll_is_counted() -> Result<()> {
    check(Build::DEFAULT)
}

#[test]
fn every_poll_is_counted_in_a_stripped_program() -> Result<()> {
    check(Build::DEFAULT.stripped())
}

#[test]
fn percentiles_are_those_of_the_truth() -> Result<()> {
    share_machine!();
    let (truth, report) = run(Build::DEFAULT, "sleep", &[])?;
    let mut durations: Vec<u64> = truth
        .iter()
        .filter(|poll| poll.kind == "async")
        .map(loopprobe_tests::truth::Poll::duration_ns)
        .collect();
    durations.sort_unstable();
    let summary = &report.summary;
    ensure!(
        summary.polls == Some(durations.len() as u64),
        "{} polls, {:?} counted",
        durations.len(),
        summary.polls
    );
    for (quantile, told) in [(0.5, summary.p50_ns), (0.99, summary.p99_ns)] {
        // A histogram may take the neighbour of the exact rank.
        let rank = (durations.len() as f64 * quantile) as usize;
        let low = durations[rank.saturating_sub(1)] as f64 * 0.875 - 20_000.0;
        let high = durations[(rank + 1).min(durations.len() - 1)] as f64 * 1.125 + 20_000.0;
        let told = told.context("no percentile")?;
        ensure!(
            (low..=high).contains(&(told as f64)),
            "p{quantile}: {told} is not in {low}..={high}"
        );
    }
    let max = durations[durations.len() - 1];
    ensure!(
        summary
            .max_ns
            .is_some_and(|told| told.abs_diff(max) < 1_000_000),
        "max: {:?} instead of {max}",
        summary.max_ns
    );
    let long = report.ended();
    ensure!(
        summary.long_polls == long.len() as u64,
        "{} long, {} reported",
        summary.long_polls,
        long.len()
    );
    ensure!(
        summary.long_ns == long.iter().map(|poll| poll.duration_ns).sum::<u64>(),
        "the sum is another"
    );
    Ok(())
}

#[test]
fn a_threshold_of_zero_reports_every_poll() -> Result<()> {
    share_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep", "--rounds", "5"])?;
    let (truth, report) = observe(&mut target, &["--threshold", "0"])?;
    let polls = truth.iter().filter(|poll| poll.kind == "async").count();
    let reported = report
        .ended()
        .iter()
        .filter(|poll| poll.task.kind == TaskKind::Async)
        .count();
    ensure!(reported == polls, "{polls} polls, {reported} reported");
    Ok(())
}

#[test]
fn a_lower_threshold_reports_more() -> Result<()> {
    share_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let (truth, report) = observe(&mut target, &["--threshold", "3ms"])?;
    loopprobe_tests::accuracy::compare(&truth, &report.polls, "async", 3_000_000)?
        .check("threshold 3ms")?;
    let between = |poll: &&loopprobe::model::LongPoll| poll.duration_ns < THRESHOLD_NS;
    ensure!(
        report.ended().iter().any(between),
        "none between 3 and 10 ms"
    );
    Ok(())
}
