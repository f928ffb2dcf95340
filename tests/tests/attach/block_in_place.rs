//! A poll that hands its worker away may block; its report says so.

use anyhow::{Context, Result, ensure};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::Build;
use loopprobe_tests::scenario::{THRESHOLD_NS, run};
use loopprobe_tests::share_machine;

fn check(build: Build) -> Result<()> {
    share_machine!();
    let (truth, report) = run(build, "block_in_place", &[])?;
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("block_in_place")?;
    let (mut marked, mut missed) = (0, Vec::new());
    for poll in report.ended() {
        let truth = truth
            .iter()
            .find(|truth| {
                truth.task_id == poll.task_id && truth.start_ns.abs_diff(poll.start_ns) < 1_000_000
            })
            .with_context(|| format!("no truth for {poll:?}"))?;
        match (poll.block_in_place, truth.block_in_place) {
            (true, false) => anyhow::bail!("marked although it kept its worker: {truth:?}"),
            (false, true) => missed.push(truth),
            (true, true) => marked += 1,
            (false, false) => {}
        }
    }
    eprintln!(
        "block_in_place: {marked} polls marked, {} missed",
        missed.len()
    );
    // The first handover teaches which closure is a worker; if that one polls nothing before the
    // poll ends, it is missed.
    ensure!(marked > 0 && missed.len() <= 1, "not marked: {missed:?}");
    ensure!(
        truth
            .iter()
            .any(|poll| poll.block_in_place && poll.duration_ns() > THRESHOLD_NS),
        "none to see"
    );
    Ok(())
}

#[test]
fn polls_that_went_through_block_in_place_are_marked() -> Result<()> {
    check(Build::DEFAULT)
}

#[test]
fn polls_that_went_through_block_in_place_are_marked_in_a_stripped_program() -> Result<()> {
    check(Build::DEFAULT.stripped())
}
