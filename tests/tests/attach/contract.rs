//! The names in the JSON output are a contract with other programs.

use anyhow::{Context, Result, ensure};
use loopprobe_tests::matrix::{Build, loopprobe};
use loopprobe_tests::scenario::gated;
use loopprobe_tests::share_machine;
use serde_json::Value;
use std::process::{Command, Stdio};

fn has(line: &Value, names: &[&str]) -> Result<()> {
    for name in names {
        ensure!(line.get(*name).is_some(), "no {name} in {line}");
    }
    Ok(())
}

#[test]
fn each_line_is_an_object_with_the_documented_names() -> Result<()> {
    share_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let child = Command::new(loopprobe()?)
        .args([
            "attach",
            "--pid",
            &target.pid().to_string(),
            "--format",
            "json",
            "--duration",
            "3s",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // Attaching takes a part of a second; the rest of the duration is the target's.
    std::thread::sleep(std::time::Duration::from_secs(1));
    target.work()?;
    let output = child.wait_with_output()?;
    let lines: Vec<Value> = String::from_utf8(output.stdout)?
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect::<Result<_>>()?;
    let (first, last) = (
        lines.first().context("a head")?,
        lines.last().context("a summary")?,
    );
    ensure!(
        first["type"] == "session" && first["schema"] == 1,
        "{first}"
    );
    has(first, &["version", "pid", "threshold_ns", "sites", "tokio"])?;
    ensure!(last["type"] == "summary", "{last}");
    has(last, &["polls", "long_polls", "lost", "tasks"])?;
    for task in last["tasks"].as_array().context("tasks are a list")? {
        has(
            task,
            &[
                "name", "kind", "polls", "total_ns", "p50_ns", "p99_ns", "max_ns", "long",
            ],
        )?;
    }
    let long: Vec<_> = lines
        .iter()
        .filter(|line| line["type"] == "long_poll")
        .collect();
    ensure!(!long.is_empty(), "no long poll in {} lines", lines.len());
    for poll in long {
        has(
            poll,
            &[
                "pid",
                "tid",
                "thread",
                "task_id",
                "task",
                "start_ns",
                "duration_ns",
                "ended",
            ],
        )?;
        has(&poll["task"], &["name", "kind", "certain"])?;
        ensure!(poll["pid"] == target.pid(), "{poll}");
    }
    Ok(())
}
