//! What reading `/proc/PID` can give: gone, denied, not understood, or no memory at all.

use std::io;

/// What can go wrong when a process is looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There is no such process, or it is gone by now.
    #[error("there is no process {pid}; `loopprobe ps` lists those that use Tokio")]
    NotFound {
        /// The process.
        pid: u32,
    },
    /// It belongs to somebody else.
    #[error("no permission to read /proc/{pid}/{file}; {}", super::how_to_read())]
    Denied {
        /// The process.
        pid: u32,
        /// The file below `/proc/PID`.
        file: &'static str,
    },
    /// Anything else that reading gave.
    #[error("cannot read /proc/{pid}/{file}")]
    Read {
        /// The process.
        pid: u32,
        /// The file below `/proc/PID`.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel wrote something that this code does not understand.
    #[error("cannot understand /proc/{pid}/{file}: `{text}`")]
    Format {
        /// The process.
        pid: u32,
        /// The file below `/proc/PID`.
        file: &'static str,
        /// The part that it is about.
        text: String,
    },
    /// It has ended, but its parent has not waited for it, or it is a thread of the kernel: it has
    /// no memory.
    #[error("process {pid} has no program in memory: it is a zombie or a kernel thread")]
    NoMemory {
        /// The process.
        pid: u32,
    },
}

impl ProcessError {
    pub(super) fn reading(pid: u32, file: &'static str, source: io::Error) -> Self {
        match (source.kind(), source.raw_os_error()) {
            (io::ErrorKind::NotFound, _) | (_, Some(libc::ESRCH)) => Self::NotFound { pid },
            (io::ErrorKind::PermissionDenied, _) => Self::Denied { pid, file },
            _ => Self::Read { pid, file, source },
        }
    }
}
