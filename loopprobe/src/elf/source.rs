//! An image's bytes by pread, never mapped, so that a truncated file gives no SIGBUS.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use super::{ElfError, FileState};

/// Where an image's bytes come from.
///
/// Files are read with `pread`, never mapped: the owner of a mapped file can truncate it while it
/// is read, and the access would kill this process with SIGBUS.
#[derive(Debug)]
pub(super) enum Source {
    File { file: File, len: u64 },
    Bytes(Vec<u8>),
}

impl Source {
    /// Opens a regular file. A pipe or a device does not block and is refused.
    pub(super) fn open(path: &Path) -> Result<Self, ElfError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
            .open(path)
            .map_err(|source| ElfError::Read {
                path: path.into(),
                source,
            })?;
        Self::from_file(file, path)
    }

    pub(super) fn from_file(file: File, path: &Path) -> Result<Self, ElfError> {
        let metadata = file.metadata().map_err(|source| ElfError::Read {
            path: path.into(),
            source,
        })?;
        if !metadata.is_file() {
            return Err(ElfError::NotRegular { path: path.into() });
        }
        Ok(Self::File {
            file,
            len: metadata.len(),
        })
    }

    /// The file's state now; `None` without a file.
    pub(super) fn state(&self) -> Option<FileState> {
        match self {
            Self::File { file, .. } => FileState::of_open(file).ok(),
            Self::Bytes(_) => None,
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Reads `size` bytes at `offset`. The caller has bounded `size`; `what` names the part in the
    /// error.
    pub(super) fn read(
        &self,
        path: &Path,
        what: &'static str,
        offset: u64,
        size: u64,
    ) -> Result<Vec<u8>, ElfError> {
        let truncated = |len| ElfError::Truncated {
            path: path.into(),
            what,
            end: offset.saturating_add(size),
            len,
        };
        let end = offset
            .checked_add(size)
            .filter(|end| *end <= self.len())
            .ok_or_else(|| truncated(self.len()))?;
        match self {
            Self::Bytes(bytes) => Ok(bytes[offset as usize..end as usize].to_vec()),
            Self::File { file, .. } => {
                let mut buffer = vec![0; size as usize];
                file.read_exact_at(&mut buffer, offset)
                    .map_err(|source| match source.kind() {
                        std::io::ErrorKind::UnexpectedEof => {
                            truncated(file.metadata().map_or(0, |m| m.len()))
                        }
                        _ => ElfError::Read {
                            path: path.into(),
                            source,
                        },
                    })?;
                Ok(buffer)
            }
        }
    }
}
