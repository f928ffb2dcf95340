use std::{
    fs, io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use super::ProcessError;

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

/// The process's name, as its first thread carries it: at most 15 bytes.
///
/// # Errors
///
/// [`ProcessError::NotFound`] if it is gone.
pub fn name(pid: u32) -> Result<String, ProcessError> {
    const FILE: &str = "comm";
    let name = fs::read(format!("/proc/{pid}/{FILE}"))
        .map_err(|error| ProcessError::reading(pid, FILE, error))?;
    Ok(String::from_utf8_lossy(&name)
        .trim_end_matches('\n')
        .to_owned())
}
