//! Tests that need a kernel's consent, and the machine for themselves.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd;

use anyhow::{Result, ensure};

use crate::{matrix, unprivileged};

/// A place on the machine, held until it is dropped.
#[derive(Debug)]
pub struct Machine {
    _lock: File,
}

/// Whom a test can stand beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nobody: it measures what others' load would change, or looks at all processes.
    Nobody,
    /// Others: what it asks for must hold on a busy machine too.
    Others,
}

/// Waits for the machine, or for a place on it; `None` where this process may not load eBPF
/// programs, after saying aloud what is missing.
///
/// Where the tests are run to prove something, in CI (the variable `CI` is set), a missing
/// privilege is a failure and not a reason to skip.
///
/// # Errors
/// When the privileges are missing in CI.
pub fn machine(beside: Beside) -> Result<Option<Machine>> {
    if !is_root() {
        skip("root is needed to attach eBPF programs: run `sudo -E cargo xtask test`")?;
        return Ok(None);
    }
    wait_for(beside).map(Some)
}

/// Waits until nobody has the machine alone, for a test that needs no privileges and keeps a CPU
/// busy for a while: it builds programs or reads large ones.
///
/// # Errors
/// When the file that is locked cannot be made.
pub fn place() -> Result<Machine> {
    wait_for(Beside::Others)
}

fn wait_for(beside: Beside) -> Result<Machine> {
    let how = match beside {
        Beside::Nobody => libc::LOCK_EX,
        Beside::Others => libc::LOCK_SH,
    };
    std::fs::create_dir_all(matrix::target_dir())?;
    let path = matrix::target_dir().join("tests.lock");
    // Root's file is no ordinary user's to write.
    let lock = File::open(&path).or_else(|_| File::create(&path))?;
    // SAFETY: a descriptor that `lock` keeps open; the lock goes with it.
    let result = unsafe { libc::flock(lock.as_raw_fd(), how) };
    ensure!(result == 0, "cannot lock {lock:?}");
    Ok(Machine { _lock: lock })
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
    say(&format!("SKIPPED: {missing}"));
    Ok(())
}

/// Why a test can say nothing of a loopprobe that an ordinary user runs (docs/safety.md lists the
/// tests by reason).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlyRoot {
    /// The kernel wants CAP_SYS_ADMIN for it: Linux 6.16 and later, and earlier ones with "perf:
    /// Revert to requiring CAP_SYS_ADMIN for uprobes" (CVE-2025-38466).
    ProbesByPerfEvent,
    /// It is about loopprobe as sudo starts it: root, on a user's behalf.
    Sudo,
}

impl std::fmt::Display for OnlyRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ProbesByPerfEvent => {
                "the kernel gives perf events for probes to CAP_SYS_ADMIN only"
            }
            Self::Sudo => "under sudo loopprobe begins as root",
        })
    }
}

/// Whether a test is left out, because loopprobe runs as an ordinary user and the test is about
/// root's; says so aloud.
pub fn is_left_out(reason: OnlyRoot) -> bool {
    let left_out = unprivileged::wanted();
    if left_out {
        say(&format!("LEFT OUT: {reason}"));
    }
    left_out
}

/// Lines that the test runner does not keep to itself when a test passes; `cargo xtask test` counts
/// them.
fn say(line: &str) {
    // Nobody can be told that standard output is closed.
    let _ = writeln!(std::io::stdout(), "\n{line}");
}

/// Leaves the test where loopprobe runs as an ordinary user, for an
/// [`OnlyRoot`](crate::privileges::OnlyRoot) reason.
#[macro_export]
macro_rules! only_root {
    ($reason:ident) => {
        if $crate::privileges::is_left_out($crate::privileges::OnlyRoot::$reason) {
            return Ok(());
        }
    };
}

/// Takes the machine for the rest of the test, for itself; leaves the test where privileges are
/// missing.
#[macro_export]
macro_rules! take_machine {
    () => {
        $crate::__machine!(Nobody)
    };
}

/// Takes a place on the machine for the rest of the test, beside others that do; leaves the test
/// where privileges are missing.
#[macro_export]
macro_rules! share_machine {
    () => {
        $crate::__machine!(Others)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __machine {
    ($beside:ident) => {
        let Some(_machine) = $crate::privileges::machine($crate::privileges::Beside::$beside)?
        else {
            return Ok(());
        };
    };
}
