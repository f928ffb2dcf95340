//! A thread that calls `block_on` again and again: what it does in between is no future's.

use std::time::Duration;

use anyhow::{Result, ensure};
use loopprobe::model::LongPoll;
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::{Build, target};
use loopprobe_tests::scenario::{THRESHOLD_NS, gated, observe};
use loopprobe_tests::session::{Report, Session};
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;
use loopprobe_tests::truth::Poll;

/// A program without Tokio, and a library with Tokio inside.
fn library(build: Build, runtime: &str, args: &[&str]) -> Result<(Vec<Poll>, Report)> {
    let library = target(build, "libplugin.so")?;
    let program = target(build, "late_tokio")?;
    let mut host = Target::start(&program, &[&library.to_string_lossy(), "30"])?;
    host.send("load")?;
    host.until("loaded", Duration::from_secs(10))?;
    let session = Session::attach(host.pid(), args)?;
    host.send(runtime)?;
    let truth = host.truth()?;
    Ok((truth, session.interrupt()?))
}

/// Each true poll is reported, and no other; where the head says that such cannot be timed, those
/// that waited.
fn check(truth: &[Poll], report: &Report, runtime: &str) -> Result<()> {
    // What may have been a root future's, and is said to be only likely, need not have been.
    let is_true = |report: &LongPoll| {
        let end_ns = report.start_ns + report.duration_ns;
        truth.iter().any(|poll| {
            let common = end_ns
                .min(poll.end_ns)
                .saturating_sub(report.start_ns.max(poll.start_ns));
            common * 2 > report.duration_ns
        })
    };
    let mut polls = report.polls.clone();
    polls.retain(|poll| poll.task.certain || is_true(poll));
    let roots = report.polls.len();
    let covered = runtime == "current"
        || report
            .head
            .limits
            .iter()
            .all(|limit| !limit.contains("root"));
    eprintln!(
        "{runtime}: {roots} reports, {} outside ({} ms)",
        report.summary.outside_runtime,
        report.summary.outside_runtime_ns / 1_000_000
    );
    if !covered {
        // They are watched: those that waited are told, and nothing else.
        let false_ones = report.polls.iter().filter(|poll| {
            let lies_in = |root: &Poll| {
                root.start_ns <= poll.start_ns && poll.start_ns + poll.duration_ns <= root.end_ns
            };
            poll.bounds.is_none()
                || !truth
                    .iter()
                    .any(|poll| poll.kind == "root" && lies_in(poll))
        });
        let false_ones: Vec<_> = false_ones.collect();
        ensure!(false_ones.is_empty(), "{false_ones:?}");
        ensure!(roots > 2, "the root future that waits is not watched");
        return Ok(());
    }
    let found = compare(truth, &polls, "root", THRESHOLD_NS)?;
    ensure!(found.matched > 3, "no long root poll to see");
    ensure!(
        report.summary.outside_runtime > 0,
        "what was left out is not counted"
    );
    Ok(())
}

#[test]
fn what_a_program_does_between_calls_of_a_library_is_no_futures() -> Result<()> {
    share_machine!();
    for build in [Build::DEFAULT, Build::DEFAULT.stripped()] {
        for runtime in ["current", "multi"] {
            let (truth, report) = library(build, runtime, &[])?;
            check(&truth, &report, runtime)?;
        }
    }
    Ok(())
}

#[test]
fn what_a_program_does_between_its_own_calls_of_block_on_is_no_futures() -> Result<()> {
    share_machine!();
    for build in [Build::DEFAULT, Build::DEFAULT.stripped()] {
        for (scenario, runtime) in [("alternate", "current"), ("alternate_multi", "multi")] {
            let mut program = gated(build, "truth", &[scenario, "--rounds", "30"])?;
            let (truth, report) = observe(&mut program, &[])?;
            check(&truth, &report, runtime)?;
        }
    }
    Ok(())
}

#[test]
fn without_stacks_such_time_trips_no_limit() -> Result<()> {
    share_machine!();
    let args = ["--no-stacks", "--fail-over", "15ms"];
    let (_, report) = library(Build::DEFAULT, "current", &args)?;
    ensure!(report.status.success(), "{}", report.status);
    ensure!(
        report.polls.iter().all(|poll| !poll.task.certain),
        "nothing tells whose time it was: {:?}",
        report.polls.first()
    );
    Ok(())
}
