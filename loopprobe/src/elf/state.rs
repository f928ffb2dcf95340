//! What tells one state of a file from another without reading it.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// A file that was changed so short a time ago may be changed again without its times showing it:
/// some file systems keep seconds.
const SETTLED_AFTER_S: i64 = 2;

/// Which file it is, and when it was changed last. Who may write to a file can set the time of its
/// last write, but not that of its last change (`ctime`), which is the kernel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    /// As `stat` gave it.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of an open file, now.
    ///
    /// # Errors
    /// What the kernel gives.
    pub fn of_open(file: &File) -> io::Result<Self> {
        Ok(Self::of(&file.metadata()?))
    }

    /// Of a file by its path; `None` if there is none that could be read.
    pub fn at(path: &Path) -> Option<Self> {
        Some(Self::of(&fs::metadata(path).ok()?))
    }

    /// Whether nobody has written to the file between this state and another of it, as far as its
    /// times tell: whoever may write to a file can also set the time of the last write. A new name,
    /// or none any more, is no change.
    pub fn has_same_bytes(&self, other: &Self) -> bool {
        let bytes = |of: &Self| (of.device, of.inode, of.size, of.written);
        bytes(self) == bytes(other)
    }

    /// Whether its last change is so long ago that the next one will show. One that lies in the
    /// future tells nothing.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs() as i64);
        now.saturating_sub(self.changed.0) > SETTLED_AFTER_S
    }

    /// Numbers that are the same for the same state alone.
    pub fn words(&self) -> [u64; 7] {
        [
            self.device,
            self.inode,
            self.size,
            self.written.0.cast_unsigned(),
            self.written.1.cast_unsigned(),
            self.changed.0.cast_unsigned(),
            self.changed.1.cast_unsigned(),
        ]
    }
}
