//! The list as text, and the options that choose what is in it.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    matrix::{self, Build, Profile},
    privileges::place,
};
use serde_json::Value;

use crate::{crowd, run};

#[test]
fn text_fits_and_options_choose() -> Result<()> {
    let _place = place()?;
    let build = Build {
        profile: Profile::DebugTypes,
        ..Build::DEFAULT
    };
    let (target, ..) = crowd(build)?;
    let shown = |args: &[&str]| -> Result<String> {
        let output = run(&target, args)?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let text = shown(&[])?;
    for line in text.lines() {
        ensure!(line.chars().count() <= 80, "does not fit: {line}");
    }
    ensure!(text.contains("85 live tasks"), "{text}");
    // The biggest group is first, and is cut.
    let first = text
        .lines()
        .find(|line| line.contains("crowd::"))
        .context("a type")?;
    ensure!(
        first.contains("56") && first.ends_with("crowd::waits_for_ever"),
        "{first}"
    );
    ensure!(text.contains("more tasks"), "{text}");
    let text = shown(&["--type", "*sleeps", "--limit", "0", "--sort", "id"])?;
    let ids = text
        .lines()
        .filter(|line| line.trim_end().ends_with("crowd::sleeps"));
    assert_eq!(ids.count(), 21, "{text}");
    ensure!(!text.contains("more task"), "{text}");
    // Again and again, until it is told to end.
    let mut command = Command::new(matrix::loopprobe()?);
    command.args([
        "tasks",
        "--json",
        "--watch",
        "100ms",
        "--pid",
        &target.pid().to_string(),
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let seen: Vec<String> = lines.take(3).collect::<std::io::Result<_>>()?;
    child.kill()?;
    child.wait()?;
    for line in seen {
        let found: Value = serde_json::from_str(&line)?;
        assert_eq!(found["type"], "tasks");
    }
    Ok(())
}
