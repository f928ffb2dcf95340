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
pub struct Args {
    /// Run only the tests whose names contain this
    filter: Option<String>,
    /// Only the integration tests, with loopprobe and what it observes as an ordinary user's: three capabilities on its file
    #[arg(long)]
    unprivileged: bool,
}

/// Runs unit tests and documentation tests as the user, then the integration tests as root, one at a time: they compare
/// times, and on a machine with few CPUs they would disturb each other.
pub fn run(args: &Args) -> anyhow::Result<()> {
    build_ebpf::check()?;
    let filter = args.filter.as_slice();
    let mut total = Counts::default();
    if !args.unprivileged {
        total.add(own_tests(filter)?);
    }
    let mut integration = cargo(&["--package", "loopprobe-tests"]);
    as_root(&mut integration);
    if args.unprivileged {
        // The tests start as root all the same: they make the user's files, and look at loopprobe from outside.
        integration.env("LOOPPROBE_UNPRIVILEGED", "1");
    }
    integration.args(filter).args(["--", "--test-threads=1"]);
    build_binary()?;
    total.add(run_tests(&mut integration)?);
    total.report()
}

/// Those of the packages themselves.
fn own_tests(filter: &[String]) -> anyhow::Result<Counts> {
    let mut total = Counts::default();
    total.add(run_tests(
        cargo(&["--package", "loopprobe", "--doc"]).args(filter),
    )?);
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
    total.add(run_tests(cargo(&unit).args(filter))?);
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
    /// Tests that passed without doing anything, and said why (`LEFT OUT`, `SKIPPED`).
    left_out: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.broken += other.broken;
        self.left_out += other.left_out;
    }

    fn report(self) -> anyhow::Result<()> {
        let Self {
            passed,
            failed,
            ignored,
            broken,
            left_out,
        } = self;
        let good = failed == 0 && broken == 0 && passed > left_out;
        let word = if good { "ok" } else { "FAILED" };
        println!(
            "\nall tests: {word}. {} passed; {failed} failed; {left_out} left out; {ignored} ignored; {broken} did not run \
             to the end",
            passed.saturating_sub(left_out),
        );
        if !good {
            bail!("tests failed");
        }
        Ok(())
    }
}

fn run_tests(command: &mut Command) -> anyhow::Result<Counts> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo test")?;
    let output = child.stdout.take().context("the output is a pipe")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(more) = parse_summary(&line) {
            counts.add(more);
        }
        counts.left_out += u64::from(is_left_out(&line));
    }
    if !child.wait()?.success() && counts.failed == 0 {
        counts.broken += 1;
    }
    Ok(counts)
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
