//! Parts of loopprobe that a test calls itself, with the privileges that [`unprivileged`] says.

use std::io;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use caps::{CapSet, Capability, CapsHashSet};

use crate::unprivileged::{self, USER};

/// Does some work with the privileges of the test, or, where those of an ordinary user are wanted,
/// on a thread that has become [`USER`]'s and keeps three capabilities.
///
/// # Errors
/// Those of the work; when the kernel does not take the privileges away.
pub fn confined<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if !unprivileged::wanted() {
        return work();
    }
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_user().context("becoming an ordinary user")?;
            work()
        });
        thread.join().expect("the work does not panic")
    })
}

/// The C library would change the user of every thread of the process; the calls themselves change
/// this one's.
fn become_user() -> Result<()> {
    let no_groups = std::ptr::null::<libc::gid_t>();
    // SAFETY: the list of groups has no elements; all other arguments are integers.
    unsafe {
        check(libc::c_long::from(libc::prctl(
            libc::PR_SET_KEEPCAPS,
            1,
            0,
            0,
            0,
        )))?;
        check(libc::syscall(libc::SYS_setgroups, 0, no_groups))?;
        check(libc::syscall(libc::SYS_setresgid, USER, USER, USER))?;
        check(libc::syscall(libc::SYS_setresuid, USER, USER, USER))?;
    }
    let kept = CapsHashSet::from([
        Capability::CAP_BPF,
        Capability::CAP_PERFMON,
        Capability::CAP_SYS_PTRACE,
    ]);
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::set(None, CapSet::Effective, &kept)?;
    let has = caps::read(None, CapSet::Effective)?;
    ensure!(has == kept, "{has:?}");
    Ok(())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
