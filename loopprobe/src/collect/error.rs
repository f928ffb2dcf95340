use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    attach::AttachError,
    elf::ElfError,
    process::{ImageError, ProcessError},
};

/// Why a session could not begin or go on.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// The process cannot be looked at.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// None of its files holds Tokio.
    #[error(
        "process {pid} does not use Tokio 1.21 or later: none of its {files} mapped files holds a task type{}; \
         `loopprobe ps` lists the processes that do, `loopprobe inspect --pid {pid}` shows what was looked at",
        unread(.unreadable)
    )]
    NoTokio {
        /// The process.
        pid: u32,
        /// How many files were looked at.
        files: usize,
        /// What could not be read, a line each.
        unreadable: Vec<String>,
    },
    /// The program to run cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Program {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program to run is not what loopprobe can read.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// A file of the process cannot be opened.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Privileges are missing.
    #[error(
        "no permission to load eBPF programs ({0}); run loopprobe as root (sudo), or give the file CAP_BPF, CAP_PERFMON and \
         CAP_SYS_PTRACE: sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep $(command -v loopprobe); \
         `loopprobe doctor` says what is missing"
    )]
    Permission(#[source] AttachError),
    /// The kernel side could not be set up.
    #[error(transparent)]
    Attach(AttachError),
    /// The system refused something that loopprobe needs for itself.
    #[error("cannot wait for events: {0}")]
    System(#[source] io::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
}

impl From<AttachError> for ObserveError {
    fn from(error: AttachError) -> Self {
        if error.is_permission() {
            Self::Permission(error)
        } else {
            Self::Attach(error)
        }
    }
}

fn unread(unreadable: &[String]) -> String {
    if unreadable.is_empty() {
        String::new()
    } else {
        format!(" (unread: {})", unreadable.join("; "))
    }
}
