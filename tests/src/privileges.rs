//! Tests that need a kernel's consent, and the machine for themselves.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{Result, ensure};

use crate::matrix;

/// The right to attach, held by one test at a time: their bounds on time would suffer from each other's load.
#[derive(Debug)]
pub struct Machine {
    _lock: File,
}

/// Waits for the machine; `None` where this process may not load eBPF programs, after saying aloud what is missing.
///
/// Where the tests are run to prove something, in CI (the variable `CI` is set), a missing privilege is a failure and not
/// a reason to skip.
///
/// # Errors
/// When the privileges are missing in CI.
pub fn machine() -> Result<Option<Machine>> {
    if !is_root() {
        skip("root is needed to attach eBPF programs: run `sudo -E cargo xtask test`")?;
        return Ok(None);
    }
    std::fs::create_dir_all(matrix::target_dir())?;
    let lock = File::create(matrix::target_dir().join("tests.lock"))?;
    // SAFETY: a descriptor that `lock` keeps open; the lock goes with it.
    let result = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) };
    ensure!(result == 0, "cannot lock {lock:?}");
    Ok(Some(Machine { _lock: lock }))
}

/// Whether the tests are run by root.
pub fn is_root() -> bool {
    // SAFETY: no arguments, no failure.
    unsafe { libc::geteuid() == 0 }
}

/// Says aloud why a test is skipped.
///
/// # Errors
/// In CI, where every test must run.
pub fn skip(missing: &str) -> Result<()> {
    ensure!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("SKIPPED: {missing}");
    Ok(())
}

/// Takes the machine for the rest of the test; leaves the test where privileges are missing.
#[macro_export]
macro_rules! take_machine {
    () => {
        let Some(_machine) = $crate::privileges::machine()? else {
            return Ok(());
        };
    };
}
