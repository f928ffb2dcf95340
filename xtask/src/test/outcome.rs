//! What test runs said, added up.

use anyhow::bail;

/// What libtest's own summary lines say, and the tests themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
    /// Test programs that ended without a summary: they crashed or did not compile.
    pub(super) broken: u64,
    /// Tests of those that passed that failed before.
    pub(super) passed_again: u64,
    /// Tests that passed without doing anything, and said why (`LEFT OUT`, `SKIPPED`).
    pub(super) left_out: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.broken += other.broken;
        self.passed_again += other.passed_again;
        self.left_out += other.left_out;
    }

    pub(super) fn report(self) -> anyhow::Result<()> {
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
pub(super) struct Outcome {
    pub(super) counts: Counts,
    /// The names of the tests that failed.
    pub(super) failed: Vec<String>,
}

impl Outcome {
    pub(super) fn read(&mut self, line: &str) {
        if let Some(more) = parse_summary(line) {
            self.counts.add(more);
        }
        self.counts.left_out += u64::from(is_left_out(line));
        self.failed.extend(parse_failure(line));
    }
}

/// Reads `---- a::b stdout ----`, the head of what a failed test has printed. The line with
/// `FAILED` may have other output in it.
fn parse_failure(line: &str) -> Option<String> {
    let name = line.strip_prefix("---- ")?.strip_suffix(" stdout ----")?;
    Some(name.to_owned())
}

fn is_left_out(line: &str) -> bool {
    line.starts_with("LEFT OUT: ") || line.starts_with("SKIPPED: ")
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in
/// 0.01s`.
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
