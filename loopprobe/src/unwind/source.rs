//! Exact reads from a file or from memory, so that a shortened file is an error, not a fault.

use std::{fs::File, os::unix::fs::FileExt};

/// Bytes of an ELF image, from a file or from memory. Nothing is mapped: a file that its owner cuts
/// short while it is read must give an error, not a fault.
pub(crate) trait ByteSource {
    /// Reads exactly `len` bytes at `offset`; `None` where there are not that many.
    fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>>;

    /// How many bytes there are.
    fn len(&self) -> u64;
}

impl ByteSource for File {
    fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let end = offset.checked_add(len as u64)?;
        if end > ByteSource::len(self) {
            return None;
        }
        let mut bytes = vec![0; len];
        self.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    fn len(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ByteSource for [u8] {
    fn read(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(len)?).map(<[u8]>::to_vec)
    }

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }
}
