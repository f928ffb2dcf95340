//! Single facts of a process: its program, the name of its first thread, the fields of its `stat`.

use std::{fs, os::unix::ffi::OsStrExt as _, path::PathBuf};

use super::ProcessError;

/// The path of a process's program in its own mount namespace, without the kernel's ` (deleted)`.
///
/// # Errors
///
/// [`ProcessError::Denied`] for somebody else's process, [`ProcessError::NotFound`] if it is gone
/// or a kernel thread.
pub fn program(pid: u32) -> Result<PathBuf, ProcessError> {
    const FILE: &str = "exe";
    let path = fs::read_link(format!("/proc/{pid}/{FILE}"))
        .map_err(|error| ProcessError::reading(pid, FILE, error))?;
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_suffix(b" (deleted)") {
        Some(kept) => Ok(std::ffi::OsStr::from_bytes(kept).into()),
        None => Ok(path),
    }
}

/// The name that the kernel keeps of the first thread.
///
/// # Errors
///
/// [`ProcessError`] if the process is gone or may not be looked at.
pub(super) fn first_thread(pid: u32) -> Result<String, ProcessError> {
    const FILE: &str = "comm";
    let name = fs::read(format!("/proc/{pid}/{FILE}"))
        .map_err(|error| ProcessError::reading(pid, FILE, error))?;
    Ok(String::from_utf8_lossy(&name)
        .trim_end_matches('\n')
        .to_owned())
}

/// A field of `/proc/PID/stat` behind the name, by its number in proc_pid_stat(5): 3 and more.
pub(super) fn stat_field(pid: u32, number: usize) -> Option<String> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name before the state may hold anything, closing brackets too.
    let (_, rest) = stat.rsplit_once(") ")?;
    let field = rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?;
    Some(field.to_owned())
}
