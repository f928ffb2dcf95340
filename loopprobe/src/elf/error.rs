//! Why a file cannot be used as an ELF image; each message names the file.

use std::{io, path::PathBuf};

use super::Architecture;

/// Why a file cannot be used as an ELF image. Each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file could not be opened or read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("{path} is not a regular file")]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// It does not begin with the ELF magic.
    #[error("{path} is not an ELF file; give a program or a shared object")]
    NotElf {
        /// The file.
        path: PathBuf,
    },
    /// A 32-bit or big-endian file, or one for another machine.
    #[error("{path} is built for {machine}; loopprobe reads programs for x86_64 and aarch64 only")]
    Machine {
        /// The file.
        path: PathBuf,
        /// The machine's name.
        machine: String,
    },
    /// A file of a process, or so it was taken, for another processor than this machine's.
    #[error(
        "{path} is built for {}, and this machine is {}; `loopprobe inspect` reads it, no session does",
        found.name(), Architecture::HOST.name()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is built for.
        found: Architecture,
    },
    /// An object file, an archive member, or a core dump.
    #[error("{path} is {kind}, not a program or a shared object; give the linked file")]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It ends before what its headers promise.
    #[error("{path} is truncated: {what} ends at byte {end}, the file has {len}; copy it again")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The part that is cut off.
        what: &'static str,
        /// Where that part would end.
        end: u64,
        /// The file's length.
        len: u64,
    },
    /// Its headers contradict each other.
    #[error("{path} is not a well-formed ELF file: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// More than is read into memory.
    #[error("{path} is too large: {what} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The part that is too large.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// What is allowed, in bytes.
        limit: u64,
    },
}
