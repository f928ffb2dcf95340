//! Why a session could not begin or go on, with what the user can do about it.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    attach::AttachError,
    elf::ElfError,
    process::{ImageError, ProcessError, capabilities},
    runtime::NotWatchable,
};

/// Why a session could not begin or go on.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// The process cannot be looked at.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// None of its files holds Tokio.
    #[error(
        "{}; `loopprobe ps` lists the processes that do, `loopprobe inspect --pid {pid}` shows what was looked at",
        no_tokio(*.pid, *.files, .unreadable)
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
    /// A debug file that the user named belongs to none of the process's files.
    #[error("--debug-file {} is of no use: {}", path.display(), problem)]
    DebugFile {
        /// The debug file.
        path: PathBuf,
        /// Why.
        #[source]
        problem: crate::elf::DebugFileError,
    },
    /// Its threads cannot be watched.
    #[error("{} cannot be watched without probes: {why}; `--mode exact` and `--mode light` place probes and do not need that", path.display())]
    NotWatchable {
        /// The file with the runtime in it.
        path: PathBuf,
        /// Why.
        #[source]
        why: NotWatchable,
    },
    /// No thread of any process can be watched here.
    #[error(
        "threads can be watched without probes on x86-64 alone; `--mode exact` and `--mode light` work here"
    )]
    NoThreadPointer,
    /// Privileges are missing.
    #[error("{}", permission(.refused, .missing))]
    Permission {
        /// What the kernel refused.
        refused: Box<AttachError>,
        /// Which of the capabilities that a session needs this process lacks.
        missing: Vec<&'static str>,
    },
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
            Self::Permission {
                refused: Box::new(error),
                missing: capabilities::missing(),
            }
        } else {
            Self::Attach(error)
        }
    }
}

/// What was not read may hold it.
pub(super) fn no_tokio(pid: u32, files: usize, unreadable: &[String]) -> String {
    const TOKIO: &str = "Tokio 1.21 or later";
    if unreadable.is_empty() {
        return format!(
            "process {pid} does not use {TOKIO}: none of its {files} mapped files holds a task type"
        );
    }
    format!(
        "it cannot be told whether process {pid} uses {TOKIO}: {} of its {files} mapped files were not read, the others \
         hold no task type ({})",
        unreadable.len(),
        unreadable.join("; ")
    )
}

/// What was refused, what is missing, and how to get it.
fn permission(error: &AttachError, missing: &[&str]) -> String {
    if missing.is_empty() && matches!(error, AttachError::Probe { .. }) {
        return format!(
            "no permission to place probes ({error}): without uprobe_multi links, which came with Linux 6.6, that takes \
             CAP_SYS_ADMIN; run loopprobe as root (sudo)"
        );
    }
    let missing = match missing {
        [] => String::new(),
        names => format!(", without {}", names.join(" and ")),
    };
    format!(
        "no permission to load eBPF programs ({}{missing}); run loopprobe as root (sudo), or give the file CAP_BPF, \
         CAP_PERFMON and CAP_SYS_PTRACE: sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep $(command -v loopprobe); \
         `loopprobe doctor` says what is missing",
        error.to_string().trim_end()
    )
}
