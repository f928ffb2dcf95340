//! Tests that need a kernel's consent, and the machine for themselves.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{matrix, unprivileged};

/// A place on the machine, held until it is dropped.
#[derive(Debug)]
pub struct Machine {
    _locks: Vec<File>,
}

/// Whom a test can stand beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nobody: it measures what others' load would change, or looks at all processes.
    Nobody,
    /// One other, if that builds nothing: it measures, but what is measured waits most of the time.
    One,
    /// Others: what it asks for must hold on a busy machine too.
    Others,
    /// The same, but it keeps CPUs busy itself, builds programs or reads large ones: no company for
    /// those who measure.
    Loading,
}

/// The machine in parts, each a file that is locked.
const PARTS: [&str; 6] = ["0", "1", "2", "3", "4", "5"];
/// Locked by all together that keep CPUs busy, or by one each that measures in a half.
const QUIET: [&str; 2] = ["quiet-0", "quiet-1"];
/// How often a test asks for a place.
const ASK_EVERY: Duration = Duration::from_millis(20);

impl Beside {
    /// Any of these parts, with those that are locked so that others of the same kind may too.
    fn places(self) -> Vec<(&'static [&'static str], &'static [&'static str])> {
        match self {
            Self::Nobody => vec![(&PARTS, &[])],
            Self::One => vec![
                (&["0", "1", "2", "quiet-0"], &[]),
                (&["3", "4", "5", "quiet-1"], &[]),
            ],
            Self::Others => PARTS.chunks(2).map(|parts| (parts, &[][..])).collect(),
            Self::Loading => PARTS.chunks(2).map(|parts| (parts, &QUIET[..])).collect(),
        }
    }
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

/// Waits until nobody measures, for a test that needs no privileges and keeps a CPU busy for a
/// while.
///
/// # Errors
/// When a file that is locked cannot be made.
pub fn place() -> Result<Machine> {
    wait_for(Beside::Loading)
}

fn wait_for(beside: Beside) -> Result<Machine> {
    let folder = matrix::target_dir().join("tests.locks");
    fs::create_dir_all(&folder)?;
    loop {
        for (own, shared) in beside.places() {
            if let Some(locks) = take(&folder, own, shared)? {
                return Ok(Machine { _locks: locks });
            }
        }
        thread::sleep(ASK_EVERY);
    }
}

/// Locks all of these, or none; they go with the files.
fn take(folder: &Path, own: &[&str], shared: &[&str]) -> Result<Option<Vec<File>>> {
    let own = own.iter().map(|name| (name, false));
    let shared = shared.iter().map(|name| (name, true));
    let mut locks = Vec::new();
    for (name, is_shared) in own.chain(shared) {
        let path = folder.join(name);
        // Root's file is no ordinary user's to write.
        let file = File::open(&path).or_else(|_| File::create(&path))?;
        if !lock(&file, is_shared).with_context(|| path.display().to_string())? {
            return Ok(None);
        }
        locks.push(file);
    }
    Ok(Some(locks))
}

/// Whether the file could be locked at once.
fn lock(file: &File, is_shared: bool) -> io::Result<bool> {
    let how = if is_shared {
        libc::LOCK_SH
    } else {
        libc::LOCK_EX
    };
    // SAFETY: a descriptor that `file` keeps open; no memory is passed.
    if unsafe { libc::flock(file.as_raw_fd(), how | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
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

/// Takes half of the machine for the rest of the test: beside it one other runs at the most; leaves
/// the test where privileges are missing.
#[macro_export]
macro_rules! halve_machine {
    () => {
        $crate::__machine!(One)
    };
}

/// Takes a place on the machine for the rest of the test, which keeps CPUs busy: nobody who measures
/// runs beside it; leaves the test where privileges are missing.
#[macro_export]
macro_rules! load_machine {
    () => {
        $crate::__machine!(Loading)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether both find a place at the same time.
    fn together(name: &str, first: Beside, second: Beside) -> bool {
        let folder = std::env::temp_dir().join(format!("places-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut held = Vec::new();
        let mut find = |beside: Beside| {
            let found = beside
                .places()
                .into_iter()
                .find_map(|(own, shared)| take(&folder, own, shared).unwrap());
            found.map(|locks| held.push(locks)).is_some()
        };
        assert!(find(first));
        let both = find(second);
        fs::remove_dir_all(&folder).unwrap();
        both
    }

    #[test]
    fn who_measures_has_the_company_that_it_wants() {
        use Beside::{Loading, Nobody, One, Others};
        for (first, second, expected) in [
            (Nobody, Nobody, false),
            (Nobody, One, false),
            (Others, Nobody, false),
            (Loading, Nobody, false),
            (One, One, true),
            (One, Others, true),
            (One, Loading, false),
            (Loading, One, false),
            (Others, One, true),
            (Others, Loading, true),
            (Loading, Loading, true),
        ] {
            let name = format!("{first:?}-{second:?}");
            assert_eq!(together(&name, first, second), expected, "{name}");
        }
    }
}
