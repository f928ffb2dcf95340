//! Tests that need a kernel's consent.

/// Whether this process may load eBPF programs and probe other processes; says aloud what is missing when it may not.
///
/// Where the tests are run to prove something, in CI, a missing privilege is a failure and not a reason to skip.
///
/// # Panics
/// In CI (the variable `CI` is set) when the privileges are missing.
pub fn present() -> bool {
    // SAFETY: no arguments, no failure.
    let root = unsafe { libc::geteuid() } == 0;
    if root {
        return true;
    }
    let missing = "root is needed to attach eBPF programs: run `sudo -E cargo xtask test`";
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("SKIPPED: {missing}");
    false
}

/// Leaves the test, with a word of why, when the privileges are missing.
#[macro_export]
macro_rules! require_privileges {
    () => {
        if !$crate::privileges::present() {
            return Ok(());
        }
    };
}
