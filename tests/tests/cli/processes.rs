//! Processes as they are named and listed.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{matrix::Build, scenario::gated, take_machine};

use crate::{expect, run};

#[test]
fn a_process_that_does_not_exist_is_named() -> Result<()> {
    let pid = 4_194_303.to_string();
    for command in ["attach", "doctor"] {
        expect(&run(&[command, "--pid", &pid])?, 1, &[&pid, "loopprobe ps"])?;
    }
    let name = "no-such-process-here";
    expect(
        &run(&["attach", "--name", name])?,
        1,
        &[name, "loopprobe ps"],
    )
}

#[test]
fn a_process_without_tokio_is_told_apart() -> Result<()> {
    take_machine!();
    let mut child = Command::new("sleep").arg("60").spawn()?;
    let output = run(&[
        "attach",
        "--pid",
        &child.id().to_string(),
        "--duration",
        "1s",
    ]);
    child.kill()?;
    child.wait()?;
    expect(&output?, 1, &["does not use Tokio", "loopprobe ps"])
}

#[test]
fn ps_lists_a_process_with_its_version_and_symbols() -> Result<()> {
    take_machine!();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let text = String::from_utf8(run(&["ps"])?.stdout)?;
    let pid = target.pid().to_string();
    let row = text
        .lines()
        .find(|line| line.split_whitespace().next() == Some(&pid))
        .with_context(|| format!("{pid} is not in:\n{text}"))?;
    let head: Vec<&str> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let fields: Vec<&str> = row.split_whitespace().collect();
    let field = |name: &str| {
        let column = head.iter().position(|head| *head == name);
        column.and_then(|column| fields.get(column)).copied()
    };
    let user = Command::new("id").arg("-un").output()?.stdout;
    ensure!(
        field("USER") == Some(String::from_utf8(user)?.trim()),
        "{row}"
    );
    ensure!(field("AGE").is_some_and(|age| age.ends_with('s')), "{row}");
    ensure!(
        field("TOKIO").is_some_and(|version| version.starts_with("1.")),
        "{row}"
    );
    ensure!(field("SYMBOLS") == Some("symbols"), "{row}");
    ensure!(row.contains("/truth sleep"), "{row}");
    Ok(())
}

#[test]
fn a_name_tells_several_apart_or_is_found_in_a_command_line() -> Result<()> {
    take_machine!();
    let first = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let second = gated(Build::DEFAULT, "truth", &["cpu"])?;
    let pids = [first.pid().to_string(), second.pid().to_string()];
    let errors = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let several = errors(&run(&["attach", "--name", "truth", "--duration", "1s"])?);
    for word in [pids[0].as_str(), &pids[1], "COMMAND", "truth cpu", "--pid"] {
        ensure!(several.contains(word), "`{word}` is not in: {several}");
    }
    let found = run(&["attach", "--name", "truth cpu", "--duration", "1s"])?;
    let text = String::from_utf8_lossy(&found.stdout);
    ensure!(
        text.contains(&format!("pid {}", pids[1])),
        "{text}{}",
        errors(&found)
    );
    Ok(())
}
