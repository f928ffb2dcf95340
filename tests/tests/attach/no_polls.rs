//! A session in which no task is polled says what the threads do instead.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Doing, NoPolls};
use loopprobe_tests::matrix::{self, Build, loopprobe, target};
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;

const SHORT: [&str; 2] = ["--duration", "500ms"];

fn idle(build: Build, scenario: &str) -> Result<Target> {
    matrix::loopprobe()?;
    Target::start(&target(build, "idle")?, &[scenario])
}

fn found(target: &Target) -> Result<NoPolls> {
    let report = Session::attach(target.pid(), &SHORT)?.finish()?;
    ensure!(report.summary.polls == Some(0), "{:?}", report.summary);
    report.summary.no_polls.context("nothing is said")
}

fn text(target: &Target) -> Result<String> {
    let output = Command::new(loopprobe()?)
        .args(["attach", "--pid", &target.pid().to_string()])
        .args(SHORT)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        text.contains("no task was polled") && !text.contains("no polls >="),
        "{text}"
    );
    Ok(text)
}

#[test]
fn a_runtime_that_waits_for_its_blocking_pool() -> Result<()> {
    share_machine!();
    let target = idle(Build::DEFAULT, "shutdown")?;
    let found = found(&target)?;
    let main = found
        .threads
        .iter()
        .find(|thread| thread.tid == target.pid())
        .context("no main thread")?;
    ensure!(main.doing == Doing::RuntimeDrop && main.certain, "{main:?}");
    let closure = found
        .threads
        .iter()
        .find(|thread| thread.doing == Doing::BlockingClosure)
        .with_context(|| format!("no closure: {found:?}"))?;
    ensure!(
        closure.syscall.as_deref() == Some("read")
            && closure.object.as_deref() == Some("a pipe")
            && closure
                .call
                .as_ref()
                .is_some_and(|call| call.contains("read_command")),
        "{closure:?}"
    );
    let text = text(&target)?;
    ensure!(
        text.contains("waited for a Tokio runtime to shut down")
            && text.contains("was in a closure of the blocking pool: read in"),
        "{text}"
    );
    ensure!(!text.contains("idle: no thread"), "{text}");
    Ok(())
}

#[test]
fn a_runtime_with_nothing_to_do() -> Result<()> {
    share_machine!();
    let target = idle(Build::DEFAULT, "idle")?;
    let found = found(&target)?;
    let parked = found
        .threads
        .iter()
        .filter(|thread| thread.doing == Doing::Parked && thread.certain);
    // Two workers, and the thread in `block_on`.
    ensure!(parked.count() == 3, "{found:?}");
    ensure!(text(&target)?.contains("the runtime was idle"), "not idle");
    Ok(())
}

#[test]
fn stripped_programs_are_not_said_to_do_what_was_not_seen() -> Result<()> {
    share_machine!();
    for scenario in ["shutdown", "idle"] {
        let target = idle(Build::DEFAULT.stripped(), scenario)?;
        let found = found(&target)?;
        eprintln!("{scenario}: {found:#?}");
        ensure!(!found.threads.is_empty(), "no threads");
        let wrong = found.threads.iter().find(|thread| match thread.doing {
            Doing::RuntimeDrop => scenario != "shutdown" || thread.tid != target.pid(),
            Doing::InPoll => true,
            Doing::BlockingClosure => scenario == "idle" && thread.certain,
            _ => false,
        });
        ensure!(wrong.is_none(), "{scenario}: {wrong:?}");
    }
    Ok(())
}

#[test]
fn a_launcher_points_at_its_child() -> Result<()> {
    share_machine!();
    let target = idle(Build::DEFAULT, "launcher")?;
    let said = target.head.iter().find(|line| line["type"] == "child");
    let pid = said
        .and_then(|line| line["pid"].as_u64())
        .context("no child")?;
    let found = found(&target)?;
    let children: Vec<u64> = found
        .children
        .iter()
        .map(|child| child.pid.into())
        .collect();
    ensure!(children == [pid], "{pid}: {found:?}");
    let text = text(&target)?;
    ensure!(text.contains(&format!("--pid {pid}")), "{text}");
    Ok(())
}

#[test]
fn workers_that_are_stuck_are_named() -> Result<()> {
    share_machine!();
    let path = target(Build::DEFAULT, "stuck")?;
    let target = Target::start(&path, &["all_block", "--millis", "8000", "--hold"])?;
    let found = found(&target)?;
    let stuck = found
        .threads
        .iter()
        .filter(|thread| thread.doing == Doing::InPoll);
    ensure!(stuck.count() == 2, "{found:?}");
    Ok(())
}
