//! Fuzzed bytes as a file in memory and a mapping of it, as a target's own would be.

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf};

use loopprobe::{
    elf::{FileOffset, ProcAddr},
    process::Mapping,
};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A file in memory that anybody could write to, as a target's own files are.
///
/// # Panics
///
/// If there is no memory for it.
pub fn file(bytes: &[u8]) -> File {
    let file = memfd_create(c"fuzzed", MFdFlags::MFD_CLOEXEC).map(File::from);
    let file = file.expect("a file in memory");
    file.write_all_at(bytes, 0).expect("room in memory");
    file
}

/// A mapping of the file from `file_offset` on, of `len` bytes.
pub fn mapping(start: u64, len: u64, file_offset: u64) -> Mapping {
    Mapping {
        start: ProcAddr(start),
        end: ProcAddr(start.saturating_add(len)),
        file_offset: FileOffset(file_offset),
        executable: true,
        device: (0, 1),
        inode: 1,
        path: PathBuf::from("/fuzzed"),
        deleted: false,
    }
}
