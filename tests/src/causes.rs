//! The `causes` target under a session: for each blocking call its truth and its report.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use loopprobe::model::{Cause, LongPoll};
use serde::Deserialize;

use crate::accuracy::TOLERANCE_NS;
use crate::matrix::{self, Build};
use crate::session::{Report, Session};
use crate::target::Target;
use crate::truth::Poll;
use crate::unprivileged;

/// Who is to blame, as the target says.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// The cause.
    pub cause: Cause,
    /// Tells apart two cases of one cause.
    pub label: String,
    /// The function that calls what blocks.
    pub function: String,
}

/// One blocking call.
#[derive(Clone, Debug)]
pub struct Call {
    /// What it is.
    pub case: Case,
    /// The call itself; the poll around it is a little longer.
    pub truth: Poll,
    /// The report of the poll around it.
    pub report: LongPoll,
}

impl Call {
    /// Whether other threads had the CPU for most of the time: then that is the cause, whatever the
    /// task did.
    pub fn was_starved(&self) -> bool {
        self.report
            .split
            .is_some_and(|split| split.runnable_ns * 2 > self.report.duration_ns)
    }
}

/// Runs `causes SCENARIO` and finds the report of each call.
///
/// # Errors
/// When a call has no report, or something fails.
pub fn observe(build: Build, scenario: &str, rounds: u32) -> Result<(Vec<Call>, Report)> {
    let mut target = start(command(build, scenario, rounds)?.arg("--hold"), scenario)?;
    let cases: Vec<Case> = target
        .head
        .iter()
        .filter(|line| line["type"] == "case")
        .map(|line| Ok(serde_json::from_value(line.clone())?))
        .collect::<Result<_>>()?;
    let session = Session::attach(target.pid(), &[])?;
    let truth = target.work()?;
    let report = session.interrupt()?;
    ensure!(
        truth.len() == cases.len() * rounds as usize,
        "{} calls of {} cases",
        truth.len(),
        cases.len()
    );
    let calls = truth
        .into_iter()
        .map(|truth| {
            let case = cases
                .iter()
                .find(|case| case.label == truth.label)
                .context("a case for each call")?
                .clone();
            let around = report
                .ended()
                .into_iter()
                .find(|poll| is_around(poll, &truth));
            let report = around
                .with_context(|| format!("no report of {truth:?}"))?
                .clone();
            Ok(Call {
                case,
                truth,
                report,
            })
        })
        .collect::<Result<_>>()?;
    Ok((calls, report))
}

fn is_around(poll: &LongPoll, call: &Poll) -> bool {
    poll.tid == call.tid
        && poll.start_ns <= call.start_ns + TOLERANCE_NS
        && poll.start_ns + poll.duration_ns + TOLERANCE_NS >= call.end_ns
}

/// Some scenarios change what is around the process, which takes root; then the program itself
/// becomes the user's.
fn start(command: &mut Command, scenario: &str) -> Result<Target> {
    if !["dns", "throttled"].contains(&scenario) || !unprivileged::wanted() {
        return Target::spawn(command);
    }
    Target::spawn_as_is(command.env("TARGET_USER", unprivileged::USER.to_string()))
}

/// `causes SCENARIO`, which waits for its `go`.
///
/// # Errors
/// When it cannot be built.
pub fn command(build: Build, scenario: &str, rounds: u32) -> Result<Command> {
    let mut command = Command::new(matrix::target(build, "causes")?);
    // Its scratch files go to a real file system, where reads wait for a disk.
    command.current_dir(scratch()?).args([
        scenario,
        "--rounds",
        &rounds.to_string(),
        "--gate",
        "before",
    ]);
    Ok(command)
}

fn scratch() -> Result<PathBuf> {
    let place = match unprivileged::wanted() {
        true => unprivileged::public_folder()?,
        false => matrix::target_dir(),
    };
    let path = place.join("scratch");
    std::fs::create_dir_all(&path)?;
    unprivileged::give(&path)?;
    Ok(path)
}
