//! Closures on the blocking pool may block: they are counted apart and never reported.

use anyhow::{Result, ensure};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::Build;
use loopprobe_tests::scenario::{THRESHOLD_NS, run};
use loopprobe_tests::share_machine;

fn check(build: Build) -> Result<()> {
    share_machine!();
    let (truth, report) = run(build, "spawn_blocking", &[])?;
    let closures = truth.iter().filter(|poll| poll.kind == "blocking").count() as u64;
    ensure!(closures > 0, "the target ran no closure");
    ensure!(
        truth
            .iter()
            .any(|poll| poll.kind == "blocking" && poll.duration_ns() > 2 * THRESHOLD_NS),
        "none blocked"
    );
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?;
    compare(&truth, &report.polls, "root", THRESHOLD_NS)?;
    // A worker that hands its core away starts another one, which is a closure too; this scenario
    // has none of these.
    ensure!(
        report.summary.blocking_polls == Some(closures),
        "{} closures ran, {:?} were counted",
        closures,
        report.summary.blocking_polls
    );
    Ok(())
}

#[test]
fn closures_on_the_blocking_pool_are_counted_apart() -> Result<()> {
    check(Build::DEFAULT)
}

#[test]
fn closures_on_the_blocking_pool_are_counted_apart_in_a_stripped_program() -> Result<()> {
    check(Build::DEFAULT.stripped())
}
