//! What the command line promises: exit codes, errors that name the thing and the next step, and
//! where output goes.

mod child;
mod exit;
mod help;
mod inputs;
mod output;
mod privileges;
mod processes;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Result, ensure};
use loopprobe_tests::{
    matrix::{loopprobe, target_dir},
    unprivileged,
};

/// Debian's and most others' `nobody`.
const NOBODY: u32 = 65534;

fn run(args: &[&str]) -> Result<Output> {
    Ok(Command::new(loopprobe()?)
        .args(args)
        .stdin(Stdio::null())
        .output()?)
}

fn expect(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(code),
        "{}: {errors}",
        output.status
    );
    for word in words {
        ensure!(errors.contains(word), "`{word}` is not in: {errors}");
    }
    ensure!(!errors.contains("panicked"), "{errors}");
    Ok(())
}

fn folder(name: &str) -> Result<PathBuf> {
    let path = target_dir().join("cli").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path)?;
    unprivileged::give(&path)?;
    Ok(path)
}
