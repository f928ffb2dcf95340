//! A section of an image, read once.

use std::{ops::Range, sync::Arc};

/// Bytes shared between the unwinder and the search for functions.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedBytes(Arc<[u8]>);

impl std::ops::Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for SharedBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

/// A section's bytes and where they lie in the image.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub address: u64,
    pub bytes: SharedBytes,
}

impl Section {
    pub(crate) fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.bytes.len() as u64)
    }
}
