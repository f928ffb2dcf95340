//! Processes and threads that come, go, fork and execute.

use anyhow::{Result, ensure};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::{Build, target};
use loopprobe_tests::scenario::{THRESHOLD_NS, every_poll_is_counted, gated, observe};
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;

#[test]
fn threads_that_end_are_survived() -> Result<()> {
    share_machine!();
    let (truth, report) = observe(&mut gated(Build::DEFAULT, "truth", &["threads"])?, &[])?;
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("threads that come and go")?;
    every_poll_is_counted(&truth, &report)
}

/// The kernel side finds most threads by the lower bits of their ids.
#[test]
fn threads_with_similar_ids_are_told_apart() -> Result<()> {
    share_machine!();
    let args = ["neighbours", "--rounds", "60"];
    let (truth, report) = observe(&mut gated(Build::DEFAULT, "truth", &args)?, &[])?;
    for label in ["first", "second"] {
        ensure!(truth.iter().any(|poll| poll.label == label), "no {label}");
    }
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("threads with similar ids")
}

#[test]
fn the_end_of_the_target_ends_the_session() -> Result<()> {
    share_machine!();
    let mut target = Target::start(
        &target(Build::DEFAULT, "fork_exec")?,
        &["exit", "--gate", "before"],
    )?;
    let session = Session::attach(target.pid(), &[])?;
    let truth = target.work()?;
    let report = session.finish()?;
    ensure!(
        target.wait()?.code() == Some(7),
        "the target's own exit code"
    );
    ensure!(
        report.status.success(),
        "{}: {}",
        report.status,
        report.errors
    );
    let reason = &report.summary.reason;
    ensure!(
        reason.contains("ended") || reason.contains("exited"),
        "the reason is: {reason}"
    );
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("until the target ended")
}

#[test]
fn the_death_of_the_target_ends_the_session() -> Result<()> {
    share_machine!();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let session = Session::attach(target.pid(), &[])?;
    drop(target);
    let report = session.finish()?;
    ensure!(
        report.status.success(),
        "{}: {}",
        report.status,
        report.errors
    );
    Ok(())
}

#[test]
fn a_forked_child_is_not_the_target_and_lives_on() -> Result<()> {
    share_machine!();
    let mut target = Target::start(
        &target(Build::DEFAULT, "fork_exec")?,
        &["fork", "--gate", "before", "--hold"],
    )?;
    let session = Session::attach(target.pid(), &[])?;
    target.send("go")?;
    let said = target.until("child_status", std::time::Duration::from_mins(1))?;
    ensure!(
        said.last().is_some_and(|line| line["status"] == 0),
        "the child was harmed: {said:?}"
    );
    let truth = target.truth()?;
    let report = session.interrupt()?;
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("a process that forked")?;
    every_poll_is_counted(&truth, &report)
}

#[test]
fn a_target_that_executes_another_program_is_followed() -> Result<()> {
    share_machine!();
    // The next program is `truth` beside it.
    target(Build::DEFAULT, "truth")?;
    let mut target = Target::start(
        &target(Build::DEFAULT, "fork_exec")?,
        &["exec", "--gate", "before", "--rounds", "60"],
    )?;
    let session = Session::attach(target.pid(), &[])?;
    let before = target.work()?;
    target.until("ready", std::time::Duration::from_secs(10))?;
    let after = target.truth()?;
    let mut report = session.finish()?;
    ensure!(
        report.remarks("now runs") || report.remarks("exec"),
        "not a word about it: {:?}",
        report.notices
    );
    let exec_ns = report
        .notices
        .iter()
        .map(|notice| notice.time_ns)
        .min()
        .unwrap_or(0);
    let later = report
        .polls
        .iter()
        .map(|poll| poll.start_ns)
        .filter(|&start| start > exec_ns)
        .min();
    let Some(later) = later else {
        anyhow::bail!(
            "nothing of the second program was seen: {:?}",
            report.notices
        );
    };
    let both: Vec<_> = before
        .into_iter()
        .chain(
            after
                .into_iter()
                .filter(|poll| poll.start_ns + 1_000_000 >= later),
        )
        .filter(|poll| poll.start_ns >= report.head.start_ns)
        .collect();
    report
        .polls
        .retain(|poll| poll.task.kind == loopprobe::model::TaskKind::Async);
    compare(&both, &report.polls, "async", THRESHOLD_NS)?
        .check("a process that executed another program")
}
