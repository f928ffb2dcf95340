//! The kernel side says what it does when asked to, and nothing otherwise.

use anyhow::{Result, ensure};
use loopprobe_tests::matrix::Build;
use loopprobe_tests::scenario::run;
use loopprobe_tests::share_machine;

/// What the kernel side says of each thread that ends.
const MESSAGE: &str = "ends with 0 open polls";

#[test]
fn debug_messages_of_the_kernel_side_reach_standard_error() -> Result<()> {
    share_machine!();
    let (_, report) = run(Build::DEFAULT, "threads", &["--log-level", "debug"])?;
    ensure!(report.errors.contains(MESSAGE), "{}", report.errors);
    Ok(())
}

#[test]
fn without_being_asked_the_kernel_side_says_nothing() -> Result<()> {
    share_machine!();
    let (_, report) = run(Build::DEFAULT, "threads", &[])?;
    ensure!(!report.errors.contains(MESSAGE), "{}", report.errors);
    Ok(())
}
