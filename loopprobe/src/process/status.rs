//! User, threads, seccomp, tracer and namespaces of a process, and what of it may be read.

use std::{fs, io::IoSliceMut, os::unix::fs::MetadataExt as _};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::ProcessError;

/// What `/proc/PID/status` and `/proc/PID/ns` say of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its effective user.
    pub uid: u32,
    /// How many threads it has.
    pub threads: u32,
    /// Its own idea of its id, where it lives in a pid namespace below this one.
    pub inner_pid: u32,
    /// Its seccomp mode: 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// The process that traces it; 0 if none does.
    pub tracer: u32,
}

impl Status {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NotFound`] if the process is gone.
    pub fn read(pid: u32) -> Result<Self, ProcessError> {
        const FILE: &str = "status";
        let text = fs::read(format!("/proc/{pid}/{FILE}"))
            .map_err(|error| ProcessError::reading(pid, FILE, error))?;
        Self::parse(&String::from_utf8_lossy(&text)).ok_or_else(|| ProcessError::Format {
            pid,
            file: FILE,
            text: "a field is missing".to_owned(),
        })
    }

    /// Reads the text of a `status` file; `None` if a field is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let values = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            values.map(str::split_whitespace)
        };
        Some(Self {
            uid: field("Uid")?.nth(1)?.parse().ok()?,
            threads: field("Threads")?.next()?.parse().ok()?,
            inner_pid: field("NSpid")?.last()?.parse().ok()?,
            // Absent where the kernel was built without seccomp.
            seccomp: field("Seccomp")
                .and_then(|mut values| values.next()?.parse().ok())
                .unwrap_or(0),
            tracer: field("TracerPid")?.next()?.parse().ok()?,
        })
    }
}

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Process ids.
    Pid,
    /// Mounts.
    Mount,
}

impl Namespace {
    /// Whether a process lives in another namespace of this kind than loopprobe.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Denied`] for somebody else's process, [`ProcessError::NotFound`] if it is
    /// gone.
    pub fn differs(self, pid: u32) -> Result<bool, ProcessError> {
        let file = match self {
            Self::Pid => "ns/pid",
            Self::Mount => "ns/mnt",
        };
        let id = |pid: u32| {
            fs::metadata(format!("/proc/{pid}/{file}"))
                .map(|metadata| (metadata.dev(), metadata.ino()))
                .map_err(|error| ProcessError::reading(pid, file, error))
        };
        Ok(id(pid)? != id(std::process::id())?)
    }
}

/// Whether the files and sockets behind a process's descriptors can be told: `/proc/PID/fd` belongs
/// to the process's user, or to root where the process is not dumpable, and nobody else may list it
/// without CAP_DAC_READ_SEARCH.
pub fn can_read_descriptors(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok()
}

/// Whether a process's memory can be read. Yama takes that from other processes of the same user
/// without CAP_SYS_PTRACE, where `kernel.yama.ptrace_scope` is 1 or more
/// (`yama_ptrace_access_check`, `security/yama/yama_lsm.c`, Linux 6.18).
pub fn can_read_memory(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else {
        return false;
    };
    // Nothing lies at zero: whoever may read learns that, others that they may not.
    let nothing = [RemoteIoVec { base: 0, len: 1 }];
    let mut byte = [0];
    let read = process_vm_readv(
        Pid::from_raw(pid),
        &mut [IoSliceMut::new(&mut byte)],
        &nothing,
    );
    read != Err(Errno::EPERM)
}

/// How much the kernel keeps from those without privileges (`kernel.perf_event_paranoid`); `None`
/// if it does not say. Debian's and Ubuntu's know levels above 2.
pub fn perf_event_paranoid() -> Option<i32> {
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?;
    level.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn may_read_its_own() {
        assert!(can_read_memory(std::process::id()));
        assert!(can_read_descriptors(std::process::id()));
    }

    #[test]
    fn reads_its_own() {
        let pid = std::process::id();
        let status = Status::read(pid).unwrap();
        assert_eq!(status.inner_pid, pid);
        assert!(status.threads >= 1);
        assert_eq!(status.uid, nix::unistd::geteuid().as_raw());
        assert!(!Namespace::Pid.differs(pid).unwrap());
        assert!(!Namespace::Mount.differs(pid).unwrap());
    }

    #[test]
    fn a_name_cannot_forge_a_field() {
        // The kernel escapes newlines in `Name`, so no field can begin inside it.
        let text =
            "Name:\ta\\nUid:\t0\nUid:\t5\t6\t7\t8\nTracerPid:\t0\nThreads:\t3\nNSpid:\t10\t2\n";
        let status = Status::parse(text).unwrap();
        assert_eq!((status.uid, status.threads, status.inner_pid), (6, 3, 2));
        assert_eq!(status.seccomp, 0);
    }
}
