//! A pidfd that tells of a process's end; also its name and the fields of its `stat`.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use super::{
    ProcessError,
    facts::{first_thread, program, stat_field},
};

/// A descriptor that becomes readable when the process ends: `pidfd_open(2)`, Linux 5.3.
///
/// # Errors
///
/// [`ProcessError::NotFound`] if there is no such process.
pub fn pidfd(pid: u32) -> Result<OwnedFd, ProcessError> {
    // SAFETY: two integers in, a new descriptor or -1 out.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just given this descriptor to us alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => match io::Error::last_os_error() {
            // A thread that is not a process's first one is no process.
            error if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
                Err(ProcessError::NotFound { pid })
            }
            error => Err(ProcessError::reading(pid, "pidfd", error)),
        },
    }
}

/// The process's name: that of its first thread or, where the kernel has cut that, of its program's
/// file if it begins so.
///
/// # Errors
///
/// [`ProcessError::NotFound`] if it is gone.
pub fn name(pid: u32) -> Result<String, ProcessError> {
    let first_thread = first_thread(pid)?;
    // The kernel cuts names after 15 bytes (TASK_COMM_LEN in `include/linux/sched.h`).
    if first_thread.len() < 15 {
        return Ok(first_thread);
    }
    let file = program(pid).ok().and_then(|path| {
        let file = path.file_name()?.to_str()?.to_owned();
        file.starts_with(&first_thread).then_some(file)
    });
    Ok(file.unwrap_or(first_thread))
}

/// When a process began, in the kernel's clock ticks since boot; `None` if it is gone. No two
/// processes have both this and their id in common.
pub fn started(pid: u32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// How much CPU time a process has used, in nanoseconds, to a clock tick (10 ms); `None` if it is
/// gone.
pub(crate) fn cpu_ns(pid: u32) -> Option<u64> {
    // `USER_HZ` is 100 on every architecture that there is a kernel side for.
    const TICK_NS: u64 = 10_000_000;
    let ticks = |field| stat_field(pid, field)?.parse::<u64>().ok();
    Some((ticks(14)? + ticks(15)?) * TICK_NS)
}
