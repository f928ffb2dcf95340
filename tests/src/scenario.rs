//! One scenario of the `truth` target under one session.

use anyhow::{Result, ensure};

use crate::matrix::{Build, target};
use crate::session::{Report, Session};
use crate::target::Target;
use crate::truth::Poll;

/// The default threshold, in nanoseconds.
pub const THRESHOLD_NS: u64 = 10_000_000;

/// A target that is up and waits for `go` before its work.
///
/// # Errors
/// When it cannot be built or does not start.
pub fn gated(build: Build, program: &str, args: &[&str]) -> Result<Target> {
    let path = target(build, program)?;
    Target::start(&path, &[args, &["--gate", "inside", "--hold"]].concat())
}

/// Attaches, lets the target work, and detaches as Ctrl-C does. The truth begins with the session.
///
/// # Errors
/// When the target or loopprobe fail.
pub fn observe(target: &mut Target, args: &[&str]) -> Result<(Vec<Poll>, Report)> {
    let session = Session::attach(target.pid(), args)?;
    let mut truth = target.work()?;
    let report = session.interrupt()?;
    since(&mut truth, report.head.start_ns);
    Ok((truth, report))
}

/// [`gated`] and [`observe`] for `truth SCENARIO`.
///
/// # Errors
/// When the target or loopprobe fail.
pub fn run(build: Build, scenario: &str, args: &[&str]) -> Result<(Vec<Poll>, Report)> {
    observe(&mut gated(build, "truth", &[scenario])?, args)
}

/// Makes polls from before `start_ns` mere spans: they are not compared, but tell of preemptions.
pub fn since(truth: &mut [Poll], start_ns: u64) {
    for poll in truth.iter_mut().filter(|poll| poll.start_ns < start_ns) {
        poll.kind = "span".to_owned();
    }
}

/// The summary counts each poll of a task, whatever its length.
///
/// # Errors
/// When it does not.
pub fn every_poll_is_counted(truth: &[Poll], report: &Report) -> Result<()> {
    let polls = truth.iter().filter(|poll| poll.kind == "async").count() as u64;
    ensure!(
        report.summary.polls == Some(polls),
        "{polls} polls, {:?} counted",
        report.summary.polls
    );
    Ok(())
}
