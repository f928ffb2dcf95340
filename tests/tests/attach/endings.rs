//! Every way to end a session ends it with a detach, a summary and the documented exit code.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loopprobe_tests::matrix::{Build, loopprobe, target};
use loopprobe_tests::scenario::gated;
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::{Target, wait};
use loopprobe_tests::text::changed_bytes;

fn ended_by(signal: i32) -> Result<()> {
    share_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let session = Session::attach(target.pid(), &[])?;
    target.work()?;
    session.signal(signal);
    let report = session.finish()?;
    ensure!(
        report.status.code() == Some(0),
        "{}: {}",
        report.status,
        report.errors
    );
    ensure!(report.summary.polls > Some(0), "an empty summary");
    ensure!(changed_bytes(target.pid())? == 0, "probes are left");
    Ok(())
}

#[test]
fn ctrl_c_ends_with_the_summary() -> Result<()> {
    ended_by(libc::SIGINT)
}

#[test]
fn sigterm_ends_with_the_summary() -> Result<()> {
    ended_by(libc::SIGTERM)
}

#[test]
fn the_duration_ends_with_the_summary() -> Result<()> {
    share_machine!();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let session = Session::attach(target.pid(), &["--duration", "500ms"])?;
    let start = Instant::now();
    let report = session.finish()?;
    ensure!(
        report.status.code() == Some(0),
        "{}: {}",
        report.status,
        report.errors
    );
    let seconds = report.summary.duration_ns as f64 / 1e9;
    ensure!(
        (0.5..1.5).contains(&seconds),
        "the session took {seconds} s, {:?} as seen from here",
        start.elapsed()
    );
    Ok(())
}

#[test]
fn a_closed_pipe_ends_the_session() -> Result<()> {
    share_machine!();
    let path = target(Build::DEFAULT, "truth")?;
    let mut target = Target::start(&path, &["sleep", "--rounds", "1000", "--gate", "inside"])?;
    let mut child = Command::new(loopprobe()?)
        .args([
            "attach",
            "--pid",
            &target.pid().to_string(),
            "--format",
            "json",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("a pipe")?);
    let mut head = String::new();
    output.read_line(&mut head)?;
    ensure!(head.contains(r#""type":"session""#), "not a head: {head}");
    drop(output);
    target.send("go")?;
    let status = wait(&mut child, Duration::from_secs(20));
    if status.is_err() {
        child.kill()?;
        child.wait()?;
    }
    ensure!(status?.code() == Some(0), "a closed pipe is no failure");
    ensure!(changed_bytes(target.pid())? == 0, "probes are left");
    Ok(())
}

#[test]
fn a_limit_that_was_passed_is_told_by_exit_code_3() -> Result<()> {
    share_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    for (limit, code) in [("10s", 0), ("20ms", 3)] {
        let session = Session::attach(target.pid(), &["--fail-over", limit])?;
        if code == 3 {
            target.work()?;
        }
        let report = session.interrupt()?;
        ensure!(
            report.status.code() == Some(code),
            "--fail-over {limit}: {}",
            report.status
        );
    }
    Ok(())
}

fn failure(args: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(loopprobe()?)
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

#[test]
fn wrong_usage_is_told_by_exit_code_2() -> Result<()> {
    for args in [
        &["attach"][..],
        &["attach", "--pid", "x"],
        &["attach", "--pid", "1", "--threshold", "banana"],
    ] {
        let (code, errors) = failure(args)?;
        ensure!(
            code == Some(2) && !errors.is_empty(),
            "{args:?}: {code:?} {errors}"
        );
    }
    Ok(())
}

#[test]
fn a_process_that_is_not_there_is_named_in_the_error() -> Result<()> {
    let mut child = Command::new("true").spawn()?;
    let pid = child.id().to_string();
    child.wait()?;
    let (code, errors) = failure(&["attach", "--pid", &pid])?;
    ensure!(
        code == Some(1) && errors.contains(&pid),
        "{code:?} {errors}"
    );
    Ok(())
}

#[test]
fn a_process_without_tokio_is_refused_with_a_reason() -> Result<()> {
    share_machine!();
    let mut child = Command::new("sleep").arg("60").spawn()?;
    let result = failure(&["attach", "--pid", &child.id().to_string()]);
    child.kill()?;
    child.wait()?;
    let (code, errors) = result?;
    ensure!(
        code == Some(1) && errors.to_lowercase().contains("tokio"),
        "{code:?} {errors}"
    );
    Ok(())
}
