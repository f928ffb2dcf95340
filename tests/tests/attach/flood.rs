//! More stacks than loopprobe can look at: no poll is lost to them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::matrix::{Build, target};
use loopprobe_tests::session::{Report, Session};
use loopprobe_tests::take_machine;
use loopprobe_tests::target::Target;

/// So many polls, each with three stacks of 16 KiB from its waits and some from samples, come while
/// loopprobe cannot look: ten times what the ring buffer of stacks holds.
const POLLS: u64 = 1_500;
const WORKERS: u64 = 2;

/// Polls of 2.4 ms on two workers.
fn storm() -> Result<Target> {
    let program = target(Build::DEFAULT, "busy")?;
    let args = ["storm", "--millis", "120000", "--rounds", "2400"];
    Target::start(&program, &args)
}

/// How many polls the target has done, the next time that it says so.
fn polls(target: &Target) -> Result<u64> {
    let lines = target.until("rate", Duration::from_secs(20))?;
    let line = lines.last().context("a line")?;
    line["polls"].as_u64().context("a count")
}

/// The kernel side counts long polls apart from their records.
fn check(report: &Report) -> Result<()> {
    let counted: u64 = report.summary.tasks.iter().map(|task| task.long).sum();
    let ended = report.ended();
    let bare = ended.iter().filter(|poll| poll.stacks.is_empty()).count();
    let lost = report.summary.lost.unwrap_or_default();
    println!(
        "{counted} long polls, {} reported, {bare} without a stack; lost: {lost:?}",
        ended.len()
    );
    ensure!(counted > POLLS, "only {counted} long polls");
    ensure!(lost.events == 0, "{} records lost", lost.events);
    // Each worker may have one open at the end, which is counted and not reported.
    ensure!(
        (ended.len() as u64..=ended.len() as u64 + WORKERS).contains(&counted),
        "{} of {counted} reported",
        ended.len()
    );
    ensure!(bare == 0, "{bare} polls have no stack");
    ensure!(lost.stacks > 0, "it was no flood");
    Ok(())
}

/// loopprobe waits for whoever reads its output, as it waits for a file of 200 MB to be read: in
/// the middle of the session.
#[test]
fn no_poll_is_lost_and_each_keeps_a_stack_while_loopprobe_cannot_look() -> Result<()> {
    take_machine!();
    let target = storm()?;
    let args = ["--threshold", "1ms", "--sample-hz", "999"];
    let session = Session::attach(target.pid(), &args)?;
    let before = polls(&target)?;
    session.hold(true);
    while polls(&target)? < before + POLLS {}
    session.hold(false);
    polls(&target)?;
    check(&session.interrupt()?)
}
