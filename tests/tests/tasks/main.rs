//! `loopprobe tasks` against what the programs themselves know of their tasks.

mod awaits;
mod findings;
mod list;
mod text;

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    matrix::{self, Build},
    target::Target,
};
use serde_json::Value;

fn run(target: &Target, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(matrix::loopprobe()?);
    command.args(["tasks", "--pid", &target.pid().to_string()]);
    Ok(command.args(args).output()?)
}

fn listed(target: &Target) -> Result<Value> {
    let output = run(target, &["--json"])?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).context(errors)
}

/// Starts a program that knows its tasks, and lists them.
fn crowd(build: Build) -> Result<(Target, Vec<Value>, Value)> {
    let target = Target::start(&matrix::target(build, "crowd")?, &[])?;
    let truth: Vec<Value> = target
        .head
        .iter()
        .filter(|line| line["type"] == "task")
        .cloned()
        .collect();
    ensure!(truth.len() > 80, "{} tasks", truth.len());
    let found = listed(&target)?;
    Ok((target, truth, found))
}
