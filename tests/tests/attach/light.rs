//! Entry-only timing (`--light`): every poll over the threshold is reported with its thread and
//! task, and none that never was, although no probe sees a poll's end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::{Build, Profile, Tokio, target};
use loopprobe_tests::scenario::{THRESHOLD_NS, every_poll_is_counted, run};
use loopprobe_tests::session::Session;
use loopprobe_tests::take_machine;
use loopprobe_tests::target::Target;

/// In a build with stacks and symbols and in one without either.
fn measure(scenario: &str) -> Result<()> {
    measure_in(Build::DEFAULT, scenario, &["--light"])?;
    measure_in(
        Build::DEFAULT.stripped(),
        scenario,
        &["--light", "--no-stacks"],
    )
}

fn measure_in(build: Build, scenario: &str, args: &[&str]) -> Result<()> {
    take_machine!();
    let (truth, report) = run(build, scenario, args)?;
    let what = format!("{scenario}, stripped: {}, {args:?}", build.stripped);
    let polls = compare(&truth, &report.polls, "async", THRESHOLD_NS).context(what.clone())?;
    // As far as a scenario has any.
    if polls.matched > 0 {
        polls.check_light(&what)?;
    }
    if report
        .head
        .limits
        .iter()
        .all(|limit| !limit.contains("root"))
    {
        compare(&truth, &report.polls, "root", THRESHOLD_NS).context(what.clone())?;
    }
    let lost = report.summary.lost.unwrap_or_default();
    ensure!(
        lost.undecided == 0 && lost.unmatched_starts == 0 && lost.events == 0,
        "{what}: {lost:?}"
    );
    every_poll_is_counted(&truth, &report).context(what)
}

#[test]
fn blocking_sleeps_are_found_by_entries_alone() -> Result<()> {
    measure("sleep")
}

#[test]
fn cpu_loops_are_found_by_entries_alone() -> Result<()> {
    measure("cpu")
}

#[test]
fn nested_runtimes_are_told_apart_by_entries_alone() -> Result<()> {
    measure("nested")
}

#[test]
fn short_polls_of_a_worker_that_parks_are_not_long() -> Result<()> {
    measure("spawn_blocking")?;
    measure("short")
}

#[test]
fn a_worker_that_hands_its_core_over_ends_its_poll() -> Result<()> {
    measure("block_in_place")
}

#[test]
fn a_local_set_is_timed_by_entries_alone() -> Result<()> {
    measure("local_set")
}

#[test]
fn a_current_thread_runtime_and_its_root_future_are_told_apart_by_entries_alone() -> Result<()> {
    measure("current_thread")?;
    measure("root")
}

#[test]
fn several_runtimes_are_timed_by_entries_alone() -> Result<()> {
    measure("runtimes")
}

/// Deeper than a stack's copy usually is, at a different depth each time: what is still in its poll
/// has not parked.
#[test]
fn polls_far_down_the_stack_are_found_by_entries_alone() -> Result<()> {
    measure("deep")
}

/// No walk can show there whether a poll is open, so returns are probed, and the session says so.
#[test]
fn a_program_without_unwind_information_is_timed_exactly_in_spite_of_light() -> Result<()> {
    let bare = Build {
        profile: Profile::Bare,
        ..Build::DEFAULT
    };
    for build in [bare, bare.stripped()] {
        let (truth, report) = run(build, "sleep", &["--light"])?;
        let said = |part: &str| report.head.limits.iter().any(|limit| limit.contains(part));
        ensure!(
            said("returns are probed too, in spite of --light") && !said("timed by entries alone"),
            "{:?}",
            report.head.limits
        );
        let polls = compare(&truth, &report.polls, "async", THRESHOLD_NS)?;
        ensure!(polls.matched > 0, "no poll to compare");
        every_poll_is_counted(&truth, &report)?;
    }
    Ok(())
}

#[test]
fn other_builds_are_timed_by_entries_alone() -> Result<()> {
    let fat = Build {
        profile: Profile::Fat,
        ..Build::DEFAULT
    };
    let old = Build {
        tokio: Tokio::Exactly("1.28.2"),
        ..Build::DEFAULT
    };
    measure_in(fat.stripped(), "sleep", &["--light"])?;
    measure_in(old.stripped(), "sleep", &["--light"])
}

/// The worker parks for good behind its only long poll, so no probe ever says that the poll has
/// ended.
#[test]
fn the_last_poll_of_a_worker_is_reported_when_the_worker_has_parked() -> Result<()> {
    take_machine!();
    let path = target(Build::DEFAULT, "stuck")?;
    let mut target = Target::start(
        &path,
        &["block", "--millis", "400", "--gate", "before", "--hold"],
    )?;
    let mut session = Session::attach(target.pid(), &["--light"])?;
    target.send("go")?;
    let poll = session.next_poll(Duration::from_secs(10))?;
    ensure!(poll.ended, "it has ended: {poll:?}");
    let truth = target.truth()?;
    let report = session.interrupt()?;
    let polls = compare(&truth, &report.polls, "async", THRESHOLD_NS)?;
    ensure!(polls.matched == 1, "{} polls", polls.matched);
    ensure!(
        report.ended().len() == 1 && report.summary.long_polls == 1,
        "reported once, counted once: {report:?}"
    );
    Ok(())
}
