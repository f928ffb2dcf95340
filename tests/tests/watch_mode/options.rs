//! Options that contradict the mode.

use std::process::Command;

use anyhow::{Result, ensure};
use loopprobe_tests::matrix;

/// What only counts of polls tell cannot be had.
#[test]
fn options_that_contradict_it_are_refused() -> Result<()> {
    for (options, reason) in [
        (
            &["--mode", "watch", "--threshold", "0"][..],
            "does not count polls",
        ),
        (
            &["--mode", "watch", "--threshold", "auto"],
            "does not count polls",
        ),
        (
            &["--mode", "watch", "--interval", "1s"],
            "does not count polls",
        ),
        (&["--mode", "watch", "--light"], "cannot be used with"),
        (&["--mode", "exact", "--light"], "cannot be used with"),
    ] {
        let mut command = Command::new(matrix::loopprobe()?);
        let output = command
            .args(["attach", "--pid", "1"])
            .args(options)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{options:?}: {said}");
        ensure!(said.contains(reason), "{options:?}: {said}");
    }
    Ok(())
}
