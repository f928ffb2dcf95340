//! Blocking calls on a stack that is not the thread's.

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Cause, Outcome};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::Build;
use loopprobe_tests::scenario::{THRESHOLD_NS, gated, observe};
use loopprobe_tests::share_machine;

#[test]
fn a_call_on_a_stack_above_the_threads_own_is_told_by_its_system_call() -> Result<()> {
    check("above")
}

#[test]
fn a_call_on_a_stack_below_the_threads_own_is_told_by_its_system_call() -> Result<()> {
    check("below")
}

fn check(scenario: &str) -> Result<()> {
    share_machine!();
    let mut target = gated(Build::DEFAULT, "other_stack", &[scenario, "--rounds", "8"])?;
    let (truth, report) = observe(&mut target, &[])?;
    let polls = compare(&truth, &report.polls, "async", THRESHOLD_NS)?;
    ensure!(polls.matched == 8, "{} polls", polls.matched);
    for poll in report.ended() {
        let cause = poll.diagnosis.as_ref().map(|found| found.cause);
        ensure!(cause == Some(Cause::Sleep), "{cause:?}: {poll:#?}");
        let stack = poll.stacks.first().context("a stack")?;
        ensure!(stack.outcome == Outcome::OtherStack, "{stack:?}");
        let named = |name: &str| {
            let mut functions = stack
                .frames
                .iter()
                .filter_map(|frame| frame.function.as_ref());
            functions.any(|function| function.contains(name))
        };
        ensure!(named("other_stack::guest"), "{stack:#?}");
    }
    let lost = report.summary.lost.context("what was lost")?;
    ensure!(lost.incomplete_stacks >= 8, "each is counted: {lost:?}");
    Ok(())
}
