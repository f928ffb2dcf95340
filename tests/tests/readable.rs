//! What a terminal shows can be read: lines fit, nothing is told twice, and a busy service does not
//! drown its user.

use std::{fs::File, process::Command};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{model::Sink as _, recording::Recorder};
use loopprobe_tests::{
    causes,
    folder::Folder,
    matrix::{self, Build},
    privileges, synthetic,
    target::Target,
};

const WIDTHS: [usize; 2] = [80, 120];
/// More lines than this in a minute are not read.
const LINES: usize = 120;

/// What a command shows on a terminal so many columns wide, without colours.
fn on_terminal(columns: usize, command: &str) -> Result<String> {
    let command = format!("stty cols {columns} rows 50; exec {command}");
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .output()
        .context("script(1) of util-linux makes the terminal: apt-get install bsdutils")?;
    let shown = String::from_utf8(output.stdout)?.replace("\r\n", "\n");
    ensure!(output.status.success(), "{}: {shown}", output.status);
    let shown = anstream::adapter::strip_str(&shown).to_string();
    // What is overwritten, as progress is, is not there in the end.
    let kept = |line: &str| line.rsplit('\r').next().unwrap_or_default().to_owned();
    Ok(shown.lines().map(kept).collect::<Vec<_>>().join("\n"))
}

/// Everything that must hold of a report, whatever it is about.
fn check(shown: &str, columns: usize) -> Result<()> {
    for line in shown.lines() {
        ensure!(
            line.chars().count() <= columns,
            "does not fit {columns} columns: {line}"
        );
        says_nothing_twice(line)?;
    }
    no_block_twice(shown)?;
    let lines = shown.lines().count();
    ensure!(lines <= LINES, "{lines} lines:\n{shown}");
    Ok(())
}

/// No place in the source stands twice on a line.
fn says_nothing_twice(line: &str) -> Result<()> {
    let places = line.split_whitespace().filter(|word| word.contains(".rs:"));
    let mut places: Vec<&str> = places.collect();
    places.sort_unstable();
    ensure!(
        places.windows(2).all(|pair| pair[0] != pair[1]),
        "says a thing twice: {line}"
    );
    Ok(())
}

/// Two blocks with the same cause and call would tell the same.
fn no_block_twice(shown: &str) -> Result<()> {
    let heads = shown
        .lines()
        .filter_map(|line| line.split_once("LONG POLL  "));
    let mut kinds: Vec<&str> = heads
        .filter_map(|(_, said)| Some(said.split_once("  ")?.1))
        .collect();
    let count = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    ensure!(count == kinds.len(), "a block stands twice:\n{shown}");
    Ok(())
}

#[test]
fn a_hundred_long_polls_in_a_minute_can_be_read() -> Result<()> {
    let folder = Folder::new("readable")?;
    let path = folder.file("session.lpr");
    let mut recorder = Recorder::new(File::create(&path)?)?;
    for event in synthetic::session(&synthetic::polls(100)) {
        recorder.event(&event)?;
    }
    let loopprobe = matrix::loopprobe()?;
    for columns in WIDTHS {
        let shown = on_terminal(columns, &format!("{} report {path}", loopprobe.display()))?;
        check(&shown, columns)?;
        ensure!(shown.contains("> api::upload::store"), "{shown}");
        ensure!(shown.contains("so far"), "{shown}");
    }
    Ok(())
}

#[test]
fn a_session_with_every_cause_can_be_read_stripped() -> Result<()> {
    if !privileges::is_root() {
        return privileges::skip("root is needed to attach");
    }
    let loopprobe = matrix::loopprobe()?;
    for columns in WIDTHS {
        let mut command = causes::command(Build::DEFAULT.stripped(), "all", 50)?;
        let mut target = Target::spawn(&mut command)?;
        target.send("go")?;
        let attach = format!(
            "{} attach --pid {} --duration 4s",
            loopprobe.display(),
            target.pid()
        );
        let shown = on_terminal(columns, &attach)?;
        check(&shown, columns)?;
        ensure!(shown.contains("LONG POLL"), "{shown}");
    }
    Ok(())
}
