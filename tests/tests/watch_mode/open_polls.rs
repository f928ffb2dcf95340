//! Polls that are told of while they are open.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};
use loopprobe::model::Event;
use loopprobe_tests::{
    matrix::{self, Build, target_dir},
    session::Session,
    take_machine,
    target::Target,
};

use crate::WATCH;

/// From before the program executes, and told while it goes on.
#[test]
fn a_poll_of_a_program_that_was_started_is_told_while_it_waits() -> Result<()> {
    take_machine!();
    let output = target_dir().join("watch-run.jsonl");
    let path = matrix::target(Build::DEFAULT, "stuck")?;
    let mut command = Command::new(matrix::loopprobe()?);
    command.args(["run", "--mode", "watch", "--format", "json", "--output"]);
    command.arg(&output).arg("--").arg(path);
    let said = command.args(["block", "--millis", "2500"]).output()?;
    let lines = std::fs::read_to_string(&output)?;
    let mut polls = Vec::new();
    for line in lines.lines() {
        if let Event::LongPoll(poll) = serde_json::from_str(line)? {
            polls.push(poll);
        }
    }
    let (open, ended): (Vec<_>, Vec<_>) = polls.iter().partition(|poll| !poll.ended);
    ensure!(!open.is_empty(), "not told meanwhile: {said:?}");
    let [poll] = ended[..] else {
        anyhow::bail!("not told once: {ended:?}");
    };
    ensure!(
        open.iter().all(|open| open.start_ns == poll.start_ns),
        "{open:?}"
    );
    ensure!(poll.duration_ns >= 2_500_000_000, "{poll:?}");
    ensure!(poll.task.name.contains("stuck::task"), "{poll:?}");
    Ok(())
}

#[test]
fn a_poll_from_before_the_attach_is_found() -> Result<()> {
    take_machine!();
    let path = matrix::target(Build::DEFAULT, "stuck")?;
    let target = Target::start(&path, &["block", "--millis", "20000"])?;
    let mut session = Session::attach(target.pid(), &WATCH)?;
    let poll = session.next_poll(Duration::from_secs(30))?;
    ensure!(poll.since_before_attach && !poll.ended, "{poll:?}");
    ensure!(poll.task.name.contains("stuck::task"), "{poll:?}");
    session.interrupt()?;
    Ok(())
}
