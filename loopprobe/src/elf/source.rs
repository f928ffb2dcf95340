//! An image's bytes by pread, never mapped, so that a truncated file gives no SIGBUS.

use std::{
    fs::{File, Metadata, OpenOptions},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt as _, OpenOptionsExt},
    path::Path,
};

use nix::sys::statfs::{FsType, fstatfs};

use super::{ElfError, FileState};

/// `FUSE_SUPER_MAGIC` (`include/uapi/linux/magic.h`).
const FUSE: FsType = FsType(0x6573_5546);
/// Write permission of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Where an image's bytes come from.
///
/// Files are read with `pread`, never mapped: the owner of a mapped file can truncate it while it
/// is read, and the access would kill this process with SIGBUS.
#[derive(Debug)]
pub(super) enum Source {
    File { file: File, opened: Metadata },
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
        let opened = file.metadata().map_err(|source| ElfError::Read {
            path: path.into(),
            source,
        })?;
        if !opened.is_file() {
            return Err(ElfError::NotRegular { path: path.into() });
        }
        Ok(Self::File { file, opened })
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
            Self::File { opened, .. } => opened.len(),
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// The bytes that this was made of; none of a file.
    pub(super) fn given(&self) -> &[u8] {
        match self {
            Self::File { .. } => &[],
            Self::Bytes(bytes) => bytes,
        }
    }

    pub(super) fn is_given(&self) -> bool {
        matches!(self, Self::Bytes(_))
    }

    /// Whether nobody has written to it since it was opened ([`FileState::has_same_bytes`]).
    pub(super) fn is_as_opened(&self) -> bool {
        match self {
            Self::File { file, opened } => {
                FileState::of_open(file).is_ok_and(|now| now.has_same_bytes(&FileState::of(opened)))
            }
            Self::Bytes(_) => true,
        }
    }

    /// Whether root alone may write to it. Whoever mounts a FUSE can say so of any file there.
    pub(super) fn is_roots(&self) -> bool {
        match self {
            Self::File { file, opened } => {
                opened.uid() == 0
                    && opened.mode() & WRITABLE_BY_OTHERS == 0
                    && fstatfs(file).is_ok_and(|of| of.filesystem_type() != FUSE)
            }
            Self::Bytes(_) => true,
        }
    }

    /// Reads from `offset` on until `buffer` is full. Not from a file that is known to have been
    /// written to since it was opened.
    pub(super) fn read_into(&self, buffer: &mut [u8], offset: u64) -> bool {
        match self {
            Self::File { file, .. } => {
                file.read_exact_at(buffer, offset).is_ok() && self.is_as_opened()
            }
            Self::Bytes(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
                let found = rest.and_then(|rest| rest.get(..buffer.len()));
                found.is_some_and(|found| {
                    buffer.copy_from_slice(found);
                    true
                })
            }
        }
    }

    /// Where `size` bytes at `offset` lie, if there are so many.
    pub(super) fn range(
        &self,
        path: &Path,
        what: &'static str,
        offset: u64,
        size: u64,
    ) -> Result<Range<usize>, ElfError> {
        let end = offset.checked_add(size).filter(|end| *end <= self.len());
        end.map(|end| offset as usize..end as usize)
            .ok_or_else(|| ElfError::Truncated {
                path: path.into(),
                what,
                end: offset.saturating_add(size),
                len: self.len(),
            })
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
        let range = self.range(path, what, offset, size)?;
        match self {
            Self::Bytes(bytes) => Ok(bytes[range].to_vec()),
            Self::File { file, .. } => {
                let mut buffer = vec![0; size as usize];
                file.read_exact_at(&mut buffer, offset)
                    .map_err(|source| match source.kind() {
                        std::io::ErrorKind::UnexpectedEof => ElfError::Truncated {
                            path: path.into(),
                            what,
                            end: range.end as u64,
                            len: file.metadata().map_or(0, |m| m.len()),
                        },
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
