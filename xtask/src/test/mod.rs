//! Every test, with one summary at the end.

mod outcome;

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use self::outcome::{Counts, Outcome};
use crate::{build_ebpf, privileged, workspace};

/// What was typed for `test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only the tests whose names contain this
    filter: Option<String>,
    /// Only the integration tests, with loopprobe and what it observes as an ordinary user's: three
    /// capabilities on its file
    #[arg(long)]
    unprivileged: bool,
}

/// How often a failed integration test is run again, alone.
const AGAIN: usize = 2;
/// With more failures than this nothing is run again: that is no noise.
const MOST_AGAIN: usize = 6;

/// So many integration tests run at once. Most of their time is waiting for sessions to end; those
/// that measure wait until they have the machine for themselves (`tests/src/privileges.rs`).
const THREADS: &str = "3";

/// Runs unit tests and documentation tests as the user, then the integration tests as root.
///
/// Integration tests that fail are run again by themselves: what else a shared machine does for a
/// while can fail a test that measures. Each that passes only then is named at the end.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    build_ebpf::check()?;
    let filter = args.filter.as_slice();
    let mut total = Counts::default();
    if !args.unprivileged {
        total.add(own_tests(filter)?);
    }
    build_binary()?;
    // Some of the programs that are observed are static.
    workspace::ensure_static_target()?;
    let mut all = integration_tests(args);
    let all = all.args(filter).args(["--", "--test-threads", THREADS]);
    total.add(again(run_tests(all)?, |names| {
        let mut command = integration_tests(args);
        run_tests(
            command
                .args(["--", "--test-threads=1", "--exact"])
                .args(names),
        )
    })?);
    total.report()
}

fn integration_tests(args: &Args) -> Command {
    let mut command = cargo(&["--package", "loopprobe-tests", "--lib", "--bins", "--tests"]);
    as_root(&mut command);
    if args.unprivileged {
        // The tests start as root all the same: they make the user's files, and look at loopprobe
        // from outside.
        command.env("LOOPPROBE_UNPRIVILEGED", "1");
    }
    command
}

/// Runs what failed once more, and then what failed again.
fn again(
    first: Outcome,
    mut run: impl FnMut(&[String]) -> anyhow::Result<Outcome>,
) -> anyhow::Result<Counts> {
    let Outcome {
        mut counts,
        mut failed,
    } = first;
    for _ in 0..AGAIN {
        // A test program that ended early, or a name that was not read, is no matter of noise.
        let is_noise = failed.len() as u64 == counts.failed && failed.len() <= MOST_AGAIN;
        if failed.is_empty() || counts.broken > 0 || !is_noise {
            break;
        }
        println!("\nrun again by themselves: {}", failed.join(", "));
        let outcome = run(&failed)?;
        if outcome.counts.broken > 0 {
            break;
        }
        let passed: Vec<_> = failed
            .iter()
            .filter(|name| !outcome.failed.contains(name))
            .collect();
        // What did not run has not passed.
        if outcome.counts.passed + outcome.counts.failed < failed.len() as u64 {
            break;
        }
        for name in &passed {
            println!("passed only when it was run again: {name}");
        }
        counts.failed -= passed.len() as u64;
        counts.passed += passed.len() as u64;
        counts.passed_again += passed.len() as u64;
        failed = outcome.failed;
    }
    Ok(counts)
}

/// Those of the packages themselves.
fn own_tests(filter: &[String]) -> anyhow::Result<Counts> {
    let mut total = Counts::default();
    total.add(run_tests(cargo(&["--package", "loopprobe", "--doc"]).args(filter))?.counts);
    let unit = [
        "--lib",
        "--bins",
        "--package",
        "loopprobe",
        "--package",
        "loopprobe-common",
        "--package",
        "xtask",
    ];
    total.add(run_tests(cargo(&unit).args(filter))?.counts);
    Ok(total)
}

fn cargo(args: &[&str]) -> Command {
    let mut command = workspace::cargo();
    command
        .args(["test", "--locked", "--no-fail-fast"])
        .args(args)
        .current_dir(workspace::root());
    command
}

/// The integration tests run the command itself, as users build it.
fn build_binary() -> anyhow::Result<()> {
    let status = workspace::cargo()
        .args(["build", "--locked", "--release", "--package", "loopprobe"])
        .current_dir(workspace::root())
        .status()?;
    ensure!(status.success(), "loopprobe does not build");
    Ok(())
}

/// Cargo builds as the user, and runs what it has built through this.
fn as_root(command: &mut Command) {
    let prefix = privileged::prefix();
    if !prefix.is_empty() {
        let target = env!("XTASK_HOST").to_uppercase().replace('-', "_");
        command.env(
            format!("CARGO_TARGET_{target}_RUNNER"),
            prefix.join(&OsString::from(" ")),
        );
    }
}

fn run_tests(command: &mut Command) -> anyhow::Result<Outcome> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo test")?;
    let output = child.stdout.take().context("the output is a pipe")?;
    let mut outcome = Outcome::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        outcome.read(&line);
    }
    if !child.wait()?.success() && outcome.counts.failed == 0 {
        outcome.counts.broken += 1;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: u64, failed: &[&str]) -> Outcome {
        Outcome {
            counts: Counts {
                passed,
                failed: failed.len() as u64,
                ..Counts::default()
            },
            failed: failed.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn what_fails_once_is_run_again_and_counted() {
        let mut runs = vec![outcome(0, &["b"]), outcome(1, &["b"])].into_iter();
        let mut wanted = Vec::new();
        let counts = again(outcome(5, &["a", "b"]), |names| {
            wanted.push(names.to_vec());
            Ok(runs.next_back().unwrap())
        });
        let counts = counts.unwrap();
        assert_eq!(
            (counts.passed, counts.failed, counts.passed_again),
            (6, 1, 1)
        );
        assert_eq!(
            wanted,
            [vec!["a".to_owned(), "b".to_owned()], vec!["b".to_owned()]]
        );
        assert!(counts.report().is_err());
    }

    #[test]
    fn a_broken_tree_is_not_run_again() {
        let run = |_: &[String]| -> anyhow::Result<Outcome> { panic!("it was") };
        let many = ["a", "b", "c", "d", "e", "f", "g"];
        assert_eq!(again(outcome(5, &many), run).unwrap().failed, 7);
        let mut crashed = outcome(5, &["a"]);
        crashed.counts.broken = 1;
        assert_eq!(again(crashed, run).unwrap().failed, 1);
    }

    #[test]
    fn what_does_not_run_again_has_not_passed() {
        let counts = again(outcome(5, &["a"]), |_| Ok(outcome(0, &[]))).unwrap();
        assert_eq!((counts.passed, counts.failed), (5, 1));
    }
}
