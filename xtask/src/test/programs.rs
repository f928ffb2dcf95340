//! The test programs of a package: built by cargo, run several at a time.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::outcome::Outcome;
use crate::{privileged, workspace};

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// As cargo calls it.
    pub(super) name: String,
    path: PathBuf,
    /// Its package's folder, in which cargo runs it.
    folder: PathBuf,
}

/// What `cargo test` with these arguments would run. Cargo shows its progress.
pub(super) fn build(command: &mut Command) -> anyhow::Result<Vec<Program>> {
    command.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the tests do not build");
    let text = String::from_utf8(output.stdout).context("what cargo says")?;
    let mut programs: Vec<_> = text.lines().filter_map(read).collect();
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// Reads a `compiler-artifact` message ("External tools" in the Cargo book).
fn read(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let is_test = message["profile"]["test"].as_bool()?;
    is_test.then_some(())?;
    Some(Program {
        name: message["target"]["name"].as_str()?.to_owned(),
        path: message["executable"].as_str()?.into(),
        folder: manifest.parent()?.to_owned(),
    })
}

/// How many run at once, and with how many threads each. The tests themselves wait for a place on
/// the machine (`tests/src/privileges.rs`); while all of a program's threads wait, others go on.
pub(super) struct Width {
    pub(super) programs: usize,
    pub(super) threads: usize,
}

/// Runs them as root with these arguments, the first ones first. `prepare` sets their environment.
/// Prints what each has said once it has ended.
pub(super) fn run(
    programs: &[Program],
    width: &Width,
    args: &[String],
    prepare: &(dyn Fn(&mut Command) + Sync),
) -> anyhow::Result<Outcome> {
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Outcome::default());
    let threads = format!("--test-threads={}", width.threads);
    let work = || -> anyhow::Result<()> {
        while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut command = privileged::command(&program.path);
            command.args(args).arg(&threads);
            prepare(&mut command);
            let outcome = run_one(program, &mut command, &total)?;
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            total.add(outcome);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..width.programs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// `screen` is held while its output is printed.
fn run_one(
    program: &Program,
    command: &mut Command,
    screen: &Mutex<Outcome>,
) -> anyhow::Result<Outcome> {
    // It runs cargo itself, for what it observes.
    workspace::without_package(command);
    command.current_dir(&program.folder).stdin(Stdio::null());
    let start = std::time::Instant::now();
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", program.path.display()))?;
    let mut outcome = Outcome::default();
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().for_each(|line| outcome.read(line));
    if !output.status.success() && outcome.counts.failed == 0 {
        outcome.counts.broken += 1;
    }
    let _screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
    println!("\n{}, {:.0?}:", program.name, start.elapsed());
    print!("{said}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_programs_are_run() {
        let message = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{{"name":"cli"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let program = read(&message(true, "\"/w/cli\"")).unwrap();
        assert_eq!(program.name, "cli");
        assert_eq!(program.folder, Path::new("/w/tests"));
        assert_eq!(read(&message(false, "\"/w/cli\"")), None);
        assert_eq!(read(&message(true, "null")), None);
        assert_eq!(read(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
