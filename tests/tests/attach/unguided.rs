//! Programs without unwind information: their hangs and stacks are found by other means, or it is
//! said that they are not.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Cause, Outcome, Stack, StackKind};
use loopprobe_tests::matrix::{self, Build, Profile, target};
use loopprobe_tests::scenario::run;
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;

use crate::stuck;

fn build(profile: Profile) -> Build {
    Build {
        profile,
        ..Build::DEFAULT
    }
}

#[test]
fn hangs_are_found_by_frame_pointers() -> Result<()> {
    for (scenario, cause) in [
        ("block", Cause::Sleep),
        ("all_lock", Cause::Lock),
        ("current_spin", Cause::Cpu),
    ] {
        stuck::check(build(Profile::FramePointers), scenario, cause).context(scenario)?;
    }
    Ok(())
}

#[test]
fn stacks_are_whole_by_frame_pointers() -> Result<()> {
    share_machine!();
    for scenario in ["sleep", "cpu"] {
        whole(Profile::FramePointers, scenario, &[Outcome::FramePointers])?;
    }
    Ok(())
}

#[test]
fn hangs_are_found_in_static_programs_with_musl() -> Result<()> {
    for (scenario, cause) in [
        ("all_block", Cause::Sleep),
        ("all_lock", Cause::Lock),
        ("current_spin", Cause::Cpu),
    ] {
        stuck::check(build(Profile::Musl), scenario, cause).context(scenario)?;
    }
    Ok(())
}

/// The functions of the target's own on a stack, innermost first.
fn own(stack: &Stack) -> Vec<&str> {
    let functions = stack
        .frames
        .iter()
        .filter_map(|frame| frame.function.as_deref());
    functions
        .filter(|name| name.contains("truth::") || name.contains("targets::"))
        .collect()
}

#[test]
fn stacks_with_musl_show_the_same_functions_as_with_glibc() -> Result<()> {
    share_machine!();
    let with_glibc = whole(Profile::Release, "sleep", &[Outcome::Complete])?;
    let with_musl = whole(
        Profile::Musl,
        "sleep",
        &[Outcome::Complete, Outcome::Searched],
    )?;
    let kinds = |stacks: &[Stack]| {
        // What was sampled only by chance, in the target's own bookkeeping, may be on either side
        // alone.
        let mut kinds: Vec<Vec<String>> = stacks
            .iter()
            .filter(|stack| stack.kind == StackKind::Blocked)
            .map(|stack| own(stack).into_iter().map(str::to_owned).collect())
            .collect();
        kinds.sort();
        kinds.dedup();
        kinds
    };
    ensure!(
        kinds(&with_glibc) == kinds(&with_musl),
        "{:#?}, with musl {:#?}",
        kinds(&with_glibc),
        kinds(&with_musl)
    );
    ensure!(
        with_musl
            .iter()
            .any(|stack| stack.outcome == Outcome::Searched),
        "musl has unwind information now"
    );
    Ok(())
}

/// The stacks of the long polls of a scenario; nearly all have one of these outcomes. A sample that
/// falls on the first or last instructions of a function, before its frame is there, may not.
fn whole(profile: Profile, scenario: &str, outcomes: &[Outcome]) -> Result<Vec<Stack>> {
    let (_, report) = run(build(profile), scenario, &[])?;
    let polls = report.ended();
    let stacks: Vec<Stack> = polls.iter().flat_map(|poll| poll.stacks.clone()).collect();
    let good = stacks
        .iter()
        .filter(|stack| outcomes.contains(&stack.outcome));
    let good: Vec<Stack> = good.cloned().collect();
    let bad = stacks
        .iter()
        .find(|stack| !outcomes.contains(&stack.outcome));
    ensure!(
        good.len() >= 10 && (stacks.len() - good.len()) * 100 <= stacks.len().max(100),
        "{profile:?}, {scenario}: {} of {}, not so {bad:#?}",
        good.len(),
        stacks.len()
    );
    Ok(good)
}

#[test]
fn threads_that_cannot_be_looked_at_are_no_all_clear() -> Result<()> {
    share_machine!();
    let path = target(build(Profile::Bare), "stuck")?;
    matrix::loopprobe()?;
    let target = Target::start(&path, &["all_block", "--millis", "4000", "--hold"])?;
    let mut command = Command::new(matrix::loopprobe()?);
    command.args(["attach", "--duration", "1500ms", "--pid"]);
    let said = command.arg(target.pid().to_string()).output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(said.contains("could not be looked at"), "{said}");
    ensure!(said.contains("unwalked threads"), "{said}");
    ensure!(!said.contains("lost: nothing"), "{said}");

    let session = Session::attach(target.pid(), &[])?;
    let report = session.interrupt()?;
    let lost = report.summary.lost.context("what was lost")?;
    ensure!(lost.unwalked_threads >= 2, "both workers: {lost:?}");
    let limits = &report.head.limits;
    ensure!(
        limits
            .iter()
            .any(|limit| limit.contains("could not be looked at")),
        "{limits:?}"
    );
    let mut command = Command::new(matrix::loopprobe()?);
    let said = command
        .args(["doctor", "--pid", &target.pid().to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(said.contains("no unwind information"), "{said}");
    Ok(())
}
