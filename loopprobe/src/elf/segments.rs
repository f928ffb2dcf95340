//! The segments that a file loads, and their bytes.

use std::{ops::Range, path::Path, sync::Arc};

use object::elf;

use super::{
    ElfError, VirtAddr,
    header::{FileHeader, ProgramHeader},
    pages::Pages,
    source::Source,
};

/// The most bytes that loadable segments may have. The largest Rust programs load a few hundred
/// MiB.
const MAX_LOADED: u64 = 1 << 30;

/// Programs are mapped below this address: four levels of page tables on x86-64.
const MAX_ADDRESS: u64 = 1 << 47;

/// A loadable segment and its bytes.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: ProgramHeader,
    bytes: Bytes,
    /// How many bytes the file holds of it.
    pub(super) len: u64,
}

/// Where a segment's bytes are.
#[derive(Debug)]
enum Bytes {
    /// Nowhere: they were not wanted, or there are none.
    LeftOut,
    /// Among those that the whole file was given as.
    Given(Range<usize>),
    /// In the file, and in memory those that were asked for.
    Read(Pages),
}

/// Whether the bytes of code are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Read,
    LeftOut,
}

impl Segment {
    pub(super) fn start(&self) -> u64 {
        self.header.address.0
    }

    pub(super) fn range(&self) -> Range<VirtAddr> {
        VirtAddr(self.start())..VirtAddr(self.start() + self.len)
    }

    pub(super) fn contains(&self, address: VirtAddr) -> bool {
        self.range().contains(&address)
    }

    pub(super) fn is_executable(&self) -> bool {
        is_executable(&self.header)
    }

    pub(super) fn is_left_out(&self) -> bool {
        self.len > 0 && matches!(self.bytes, Bytes::LeftOut)
    }

    /// At most `len` bytes from `address` on, which must lie in it.
    pub(super) fn get<'a>(&'a self, source: &'a Source, address: VirtAddr, len: usize) -> &'a [u8] {
        let start = (address.0 - self.start()) as usize;
        match &self.bytes {
            Bytes::LeftOut => &[],
            Bytes::Given(range) => given(source, range, start, len),
            Bytes::Read(pages) => pages.get(source, start, len),
        }
    }

    /// The same if they are in memory already.
    pub(super) fn if_held<'a>(
        &'a self,
        source: &'a Source,
        address: VirtAddr,
        len: usize,
    ) -> Option<&'a [u8]> {
        let start = (address.0 - self.start()) as usize;
        match &self.bytes {
            Bytes::Read(pages) => pages.if_held(start, len.min(self.len as usize - start)),
            _ => Some(self.get(source, address, len)),
        }
    }

    /// How much memory its bytes take.
    pub(super) fn held(&self) -> usize {
        match &self.bytes {
            Bytes::Read(pages) => pages.held(),
            _ => 0,
        }
    }

    /// The same segment with nothing of it in memory.
    pub(super) fn afresh(&self) -> Option<Self> {
        let bytes = match &self.bytes {
            Bytes::LeftOut => Bytes::LeftOut,
            Bytes::Given(range) => Bytes::Given(range.clone()),
            Bytes::Read(_) => Bytes::Read(Pages::of(self.header.offset, self.len as usize)?),
        };
        Some(Self { bytes, ..*self })
    }
}

fn given<'a>(source: &'a Source, range: &Range<usize>, start: usize, len: usize) -> &'a [u8] {
    let all = source.given().get(range.clone()).unwrap_or_default();
    let rest = all.get(start..).unwrap_or_default();
    &rest[..len.min(rest.len())]
}

fn is_executable(header: &ProgramHeader) -> bool {
    header.flags & elf::PF_X.0 != 0
}

/// The segments of a file that is at least as long as they say.
pub(super) fn segments(
    source: &Arc<Source>,
    header: &FileHeader,
    path: &Path,
    code: Code,
) -> Result<Vec<Segment>, ElfError> {
    // Where the first segment is code, relocations and constants lie in it (`-z noseparate-code`).
    let mut loadable = header.program_headers.iter().filter(|h| h.is_load());
    let is_apart = loadable.next().is_some_and(|first| !is_executable(first));
    let malformed = |problem| ElfError::Malformed {
        path: path.into(),
        problem,
    };
    let (mut segments, mut loaded, mut last_end) = (Vec::new(), 0u64, 0);
    for header in header.program_headers.iter().filter(|h| h.is_load()) {
        let end = header
            .address
            .0
            .checked_add(header.memory_size.max(header.file_size))
            .filter(|end| *end <= MAX_ADDRESS);
        let end = end.ok_or_else(|| malformed("a segment passes the end of the address space"))?;
        if header.address.0 < last_end {
            return Err(malformed("its segments overlap or are out of order"));
        }
        last_end = end;
        loaded = loaded.saturating_add(header.file_size);
        if loaded > MAX_LOADED {
            return Err(ElfError::TooLarge {
                path: path.into(),
                what: "the loadable part",
                size: loaded,
                limit: MAX_LOADED,
            });
        }
        let is_left_out = code == Code::LeftOut && is_apart && is_executable(header);
        segments.push(Segment {
            header: *header,
            bytes: bytes(source, header, path, is_left_out)?,
            len: header.file_size,
        });
    }
    if !segments.iter().any(Segment::is_executable) {
        return Err(malformed("it has no executable segment"));
    }
    Ok(segments)
}

fn bytes(
    source: &Source,
    header: &ProgramHeader,
    path: &Path,
    is_left_out: bool,
) -> Result<Bytes, ElfError> {
    let range = source.range(path, "a loadable segment", header.offset, header.file_size)?;
    if is_left_out || header.file_size == 0 {
        return Ok(Bytes::LeftOut);
    }
    if source.is_given() {
        return Ok(Bytes::Given(range));
    }
    let pages = Pages::of(header.offset, header.file_size as usize);
    pages.map(Bytes::Read).ok_or_else(|| ElfError::Read {
        path: path.into(),
        source: std::io::ErrorKind::OutOfMemory.into(),
    })
}
