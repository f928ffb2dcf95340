//! The future given to `block_on` is no task, but it blocks the loop as well.

use anyhow::{Result, ensure};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::Build;
use loopprobe_tests::scenario::{THRESHOLD_NS, run};
use loopprobe_tests::take_machine;

/// A root poll is what lies between two polls and the driver: the turn of the loop around it counts
/// as well.
const LOOP_TURN_NS: u64 = 200_000;

fn check(build: Build, scenario: &str) -> Result<()> {
    take_machine!();
    let (truth, report) = run(build, scenario, &[])?;
    let roots = compare(&truth, &report.polls, "root", THRESHOLD_NS)?;
    let (start, duration) = roots.medians();
    eprintln!(
        "{scenario}: {} root polls, start off by {start} ns, duration by {duration} ns (medians)",
        roots.matched
    );
    ensure!(roots.matched > 0, "no long root poll to see");
    ensure!(
        start.max(duration) < LOOP_TURN_NS,
        "off by {start} and {duration} ns"
    );
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?;
    Ok(())
}

#[test]
fn a_blocking_root_future_of_a_current_thread_runtime_is_reported() -> Result<()> {
    check(Build::DEFAULT, "root")
}

#[test]
fn a_blocking_root_future_is_reported_in_a_stripped_program() -> Result<()> {
    check(Build::DEFAULT.stripped(), "root")
}

#[test]
fn a_blocking_root_future_of_a_multi_thread_runtime_is_reported_or_declared_uncovered() -> Result<()>
{
    take_machine!();
    for build in [Build::DEFAULT, Build::DEFAULT.stripped()] {
        let (truth, report) = run(build, "root_multi", &[])?;
        let declared = report
            .head
            .limits
            .iter()
            .any(|limit| limit.contains("root"));
        if !declared {
            let roots = compare(&truth, &report.polls, "root", THRESHOLD_NS)?;
            ensure!(roots.matched > 0, "no long root poll to see");
        }
    }
    Ok(())
}
