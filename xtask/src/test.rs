//! Every test, with one summary at the end.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::{build_ebpf, privileged, workspace};

/// What was typed for `test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only the tests whose names contain this
    filter: Option<String>,
    /// Only the integration tests, with loopprobe and what it observes as an ordinary user's: three capabilities on its file
    #[arg(long)]
    unprivileged: bool,
}

/// How often a failed integration test is run again, alone.
const AGAIN: usize = 2;
/// With more failures than this nothing is run again: that is no noise.
const MOST_AGAIN: usize = 6;

/// Runs unit tests and documentation tests as the user, then the integration tests as root, one at a time: they compare
/// times, and on a machine with few CPUs they would disturb each other.
///
/// Integration tests that fail are run again by themselves: what else a shared machine does for a while can fail a test that
/// measures. Each that passes only then is named at the end.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    build_ebpf::check()?;
    let filter = args.filter.as_slice();
    let mut total = Counts::default();
    if !args.unprivileged {
        total.add(own_tests(filter)?);
    }
    build_binary()?;
    let mut command = integration_tests(args);
    let outcome = run_tests(command.args(filter).args(["--", "--test-threads=1"]))?;
    total.add(again(outcome, |names| {
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
    let mut command = cargo(&["--package", "loopprobe-tests"]);
    as_root(&mut command);
    if args.unprivileged {
        // The tests start as root all the same: they make the user's files, and look at loopprobe from outside.
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
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["test", "--locked", "--no-fail-fast"])
        .args(args)
        .current_dir(workspace::root());
    command
}

/// The integration tests run the command itself, as users build it.
fn build_binary() -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
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

/// What libtest's own summary lines say, and the tests themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Test programs that ended without a summary: they crashed or did not compile.
    broken: u64,
    /// Tests of those that passed that failed before.
    passed_again: u64,
    /// Tests that passed without doing anything, and said why (`LEFT OUT`, `SKIPPED`).
    left_out: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.broken += other.broken;
        self.passed_again += other.passed_again;
        self.left_out += other.left_out;
    }

    fn report(self) -> anyhow::Result<()> {
        let Self {
            passed,
            failed,
            ignored,
            broken,
            passed_again,
            left_out,
        } = self;
        let good = failed == 0 && broken == 0 && passed > left_out;
        let word = if good { "ok" } else { "FAILED" };
        println!(
            "\nall tests: {word}. {} passed, {passed_again} of them only when run again; {failed} failed; {left_out} left \
             out; {ignored} ignored; {broken} did not run to the end",
            passed.saturating_sub(left_out),
        );
        if !good {
            bail!("tests failed");
        }
        Ok(())
    }
}

/// What `cargo test` said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    counts: Counts,
    /// The names of the tests that failed.
    failed: Vec<String>,
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

impl Outcome {
    fn read(&mut self, line: &str) {
        if let Some(more) = parse_summary(line) {
            self.counts.add(more);
        }
        self.counts.left_out += u64::from(is_left_out(line));
        self.failed.extend(parse_failure(line));
    }
}

/// Reads `---- a::b stdout ----`, the head of what a failed test has printed. The line with `FAILED` may have other output in it.
fn parse_failure(line: &str) -> Option<String> {
    let name = line.strip_prefix("---- ")?.strip_suffix(" stdout ----")?;
    Some(name.to_owned())
}

fn is_left_out(line: &str) -> bool {
    line.starts_with("LEFT OUT: ") || line.starts_with("SKIPPED: ")
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
fn parse_summary(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, counts) = rest.split_once(". ")?;
    let count = |word: &str| {
        counts
            .split("; ")
            .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
            .unwrap_or(0)
    };
    Some(Counts {
        passed: count("passed"),
        failed: count("failed"),
        ignored: count("ignored"),
        ..Counts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_runners_summary() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        let expected = Counts {
            passed: 3,
            failed: 2,
            ignored: 1,
            ..Counts::default()
        };
        assert_eq!(parse_summary(line), Some(expected));
        assert_eq!(parse_summary("test a::b ... ok"), None);
    }

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
    fn what_fails_is_known_by_name() {
        let mut seen = Outcome::default();
        for line in [
            "test a::b ... ok",
            "test a::c ... FAILED",
            "---- a::c stdout ----",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            seen.read(line);
        }
        assert_eq!(seen, outcome(1, &["a::c"]));
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

    #[test]
    fn tests_that_are_left_out_do_not_count_as_passed() {
        assert!(is_left_out("LEFT OUT: under sudo loopprobe begins as root"));
        assert!(!is_left_out("test a::b ... ok"));
        let nothing_done = Counts {
            passed: 2,
            left_out: 2,
            ..Counts::default()
        };
        assert!(nothing_done.report().is_err());
    }

    #[test]
    fn no_test_at_all_is_a_failure() {
        assert!(Counts::default().report().is_err());
        assert!(
            Counts {
                passed: 1,
                ..Counts::default()
            }
            .report()
            .is_ok()
        );
        assert!(
            Counts {
                passed: 1,
                broken: 1,
                ..Counts::default()
            }
            .report()
            .is_err()
        );
    }
}
