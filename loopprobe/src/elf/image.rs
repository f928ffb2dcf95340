//! What a program or library loads, held in memory, and its addresses before any load bias.

use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use object::elf;

use super::{
    Architecture, ElfError, FileOffset, VirtAddr,
    build_id::build_id,
    digest::ImageDigest,
    functions::FunctionTable,
    header::{FileHeader, ProgramHeader, u32_at, u64_at},
    relocations::{self, Pointers},
    sections::Sections,
    source::Source,
    starts::Starts,
};

/// The most bytes of loadable segments that are read into memory. The largest Rust programs load a
/// few hundred MiB.
const MAX_LOADED: u64 = 1 << 30;

/// Names of imported functions are compared with short ones.
const MAX_IMPORT: usize = 64;

/// Programs are mapped below this address: four levels of page tables on x86-64.
const MAX_ADDRESS: u64 = 1 << 47;

/// A loadable segment and its bytes.
#[derive(Debug)]
pub(super) struct Segment {
    header: ProgramHeader,
    /// Empty where code is left out.
    pub(super) bytes: Vec<u8>,
    /// How many bytes the file holds of it.
    pub(super) len: u64,
}

impl Segment {
    fn start(&self) -> u64 {
        self.header.address.0
    }

    fn contains(&self, address: VirtAddr) -> bool {
        address
            .0
            .checked_sub(self.start())
            .is_some_and(|delta| delta < self.len)
    }

    fn is_executable(&self) -> bool {
        is_executable(&self.header)
    }
}

fn is_executable(header: &ProgramHeader) -> bool {
    header.flags & elf::PF_X.0 != 0
}

/// Whether the bytes of code are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Read,
    LeftOut,
}

/// What an ELF program or shared object loads: its segments and what they say about themselves.
///
/// Only program headers are needed, so files without section headers work. Only loadable segments
/// are held in memory, so debug information costs nothing. Addresses are the file's own
/// ([`VirtAddr`]), before any load bias.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    pub(super) source: Arc<Source>,
    architecture: Architecture,
    fixed_address: bool,
    pub(super) segments: Vec<Segment>,
    pub(super) headers: Vec<ProgramHeader>,
    build_id: Option<String>,
    pointers: Pointers,
    pub(super) functions: OnceLock<FunctionTable>,
    /// `None` where they are described.
    pub(super) starts: OnceLock<Option<Starts>>,
    /// `None` where code is left out.
    pub(super) digest: OnceLock<Option<ImageDigest>>,
}

impl Image {
    /// Reads the image at `path`.
    ///
    /// # Errors
    /// When it cannot be read, is of no known [`Architecture`], or is malformed.
    pub fn open(path: &Path) -> Result<Self, ElfError> {
        Self::load(path, Source::open(path)?, Code::Read)
    }

    /// Reads the image from an open file, such as `/proc/PID/map_files/...`; `path` is its name for
    /// people.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn from_file(file: File, path: &Path) -> Result<Self, ElfError> {
        Self::load(path, Source::from_file(file, path)?, Code::Read)
    }

    /// The same without the bytes of its code, most of a large program, where the layout keeps code
    /// apart from all else. Addresses in it are known as code all the same.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn without_code(file: File, path: &Path) -> Result<Self, ElfError> {
        Self::load(path, Source::from_file(file, path)?, Code::LeftOut)
    }

    /// Reads the image from memory; `path` is its name for people.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, ElfError> {
        Self::load(path, Source::Bytes(bytes), Code::Read)
    }

    fn load(path: &Path, source: Source, code: Code) -> Result<Self, ElfError> {
        let header = FileHeader::read(&source, path)?;
        let segments = read_segments(&source, &header, path, code)?;
        let mut image = Self {
            path: path.into(),
            source: Arc::new(source),
            architecture: header.architecture,
            fixed_address: header.fixed_address,
            segments,
            headers: header.program_headers,
            build_id: None,
            pointers: Pointers::default(),
            functions: OnceLock::new(),
            starts: OnceLock::new(),
            digest: OnceLock::new(),
        };
        image.build_id = build_id(&image);
        image.pointers = relocations::read(&image);
        Ok(image)
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The processor that it is built for.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// Whether it is linked for one fixed address (`ET_EXEC`): then words are addresses.
    pub fn has_fixed_address(&self) -> bool {
        self.fixed_address
    }

    /// The GNU build id, in lower-case hexadecimal.
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// The executable segments' parts that the file holds, in ascending order.
    pub fn executable_ranges(&self) -> impl Iterator<Item = Range<VirtAddr>> {
        self.segments
            .iter()
            .filter(|s| s.is_executable())
            .map(range)
    }

    /// The other loadable segments' parts that the file holds, in ascending order.
    pub fn data_ranges(&self) -> impl Iterator<Item = Range<VirtAddr>> {
        self.segments
            .iter()
            .filter(|s| !s.is_executable())
            .map(range)
    }

    /// Whether `address` lies in an executable segment.
    pub fn is_code(&self, address: VirtAddr) -> bool {
        self.segment(address).is_some_and(Segment::is_executable)
    }

    /// Where in the file the byte at `address` lies: `address - p_vaddr + p_offset` of its segment.
    pub fn file_offset(&self, address: VirtAddr) -> Option<FileOffset> {
        let header = &self.segment(address)?.header;
        Some(FileOffset(address.0 - header.address.0 + header.offset))
    }

    /// The address at which the file's byte at `offset` is loaded. A byte that is mapped twice
    /// yields the executable mapping.
    pub fn address(&self, offset: FileOffset) -> Option<VirtAddr> {
        let within = |s: &&Segment| {
            offset
                .0
                .checked_sub(s.header.offset)
                .is_some_and(|d| d < s.len)
        };
        let found = self
            .segments
            .iter()
            .filter(within)
            .max_by_key(|s| s.is_executable())?;
        Some(VirtAddr(offset.0 - found.header.offset + found.start()))
    }

    /// `len` bytes at `address`, if the file holds all of them in one segment.
    pub fn bytes_at(&self, address: VirtAddr, len: usize) -> Option<&[u8]> {
        self.tail(address)?.get(..len)
    }

    /// At most `len` bytes at `address`, fewer where the segment ends.
    pub fn bytes_up_to(&self, address: VirtAddr, len: usize) -> &[u8] {
        let tail = self.tail(address).unwrap_or_default();
        &tail[..len.min(tail.len())]
    }

    /// The little-endian word at `address`, as the file holds it (before relocation).
    pub fn u64_at(&self, address: VirtAddr) -> Option<u64> {
        u64_at(self.tail(address)?, 0)
    }

    /// The little-endian 32-bit word at `address`.
    pub fn u32_at(&self, address: VirtAddr) -> Option<u32> {
        u32_at(self.tail(address)?, 0)
    }

    /// The bytes from `address` to the next NUL, which must follow within `max` bytes.
    pub fn cstr(&self, address: VirtAddr, max: usize) -> Option<&[u8]> {
        let bytes = self.bytes_up_to(address, max);
        bytes.iter().position(|b| *b == 0).map(|end| &bytes[..end])
    }

    /// The address that the word at `address` holds once the image is loaded, if it is a pointer
    /// into the image.
    pub fn pointer_at(&self, address: VirtAddr) -> Option<VirtAddr> {
        if !self.fixed_address || self.pointers.contains(address) {
            return self.pointers.get(address);
        }
        let target = VirtAddr(self.u64_at(address)?);
        self.is_mapped(target).then_some(target)
    }

    /// Whether the loader puts the number of a module with thread-local variables into the word at
    /// `address`: the first of the two that `__tls_get_addr` takes.
    pub fn is_thread_local_module(&self, address: VirtAddr) -> bool {
        self.pointers.is_module(address)
    }

    /// The name of the symbol of another file whose address the loader puts into the word at
    /// `address`: what a stripped file says of the functions that it calls in libraries.
    pub fn import_at(&self, address: VirtAddr) -> Option<&[u8]> {
        self.cstr(self.pointers.import(address)?, MAX_IMPORT)
    }

    /// All words that are pointers into the image, as (where, to where), in ascending order:
    /// relative and local symbolic relocations, and in a fixed-address image each aligned data word
    /// that is an address of the image.
    pub fn pointers(&self) -> impl Iterator<Item = (VirtAddr, VirtAddr)> {
        let relocated = self.pointers.iter();
        let words = self
            .fixed_address
            .then(|| self.data_ranges())
            .into_iter()
            .flatten()
            .flat_map(|range| {
                let first = range.start.0.next_multiple_of(8);
                (first..range.end.0)
                    .step_by(8)
                    .filter_map(|a| Some((VirtAddr(a), self.pointer_at(VirtAddr(a))?)))
            });
        relocated.filter(|_| !self.fixed_address).chain(words)
    }

    /// The file's length in bytes.
    pub fn file_len(&self) -> u64 {
        self.source.len()
    }

    /// Reads a part of the file that need not be loaded. The caller bounds `size`; `what` names the
    /// part in errors.
    ///
    /// # Errors
    /// When the file ends before or cannot be read.
    pub fn read_file(
        &self,
        what: &'static str,
        offset: FileOffset,
        size: u64,
    ) -> Result<Vec<u8>, ElfError> {
        self.source.read(&self.path, what, offset.0, size)
    }

    /// The file's sections; none where the section headers were removed.
    ///
    /// # Errors
    /// When the section headers lie outside of the file.
    pub fn sections(&self) -> Result<Sections, ElfError> {
        Sections::read(&self.path, Arc::clone(&self.source))
    }

    pub(super) fn header(&self, kind: elf::ProgramType) -> Option<&ProgramHeader> {
        self.headers.iter().find(|h| h.kind == kind.0)
    }

    pub(super) fn headers(&self, kind: elf::ProgramType) -> impl Iterator<Item = &ProgramHeader> {
        self.headers.iter().filter(move |h| h.kind == kind.0)
    }

    /// How many bytes all segments hold.
    pub(super) fn loaded(&self) -> u64 {
        self.segments.iter().map(|s| s.len).sum()
    }

    /// All bytes from `address` to the end of its segment.
    pub(super) fn tail(&self, address: VirtAddr) -> Option<&[u8]> {
        let segment = self.segment(address)?;
        segment.bytes.get((address.0 - segment.start()) as usize..)
    }

    fn is_mapped(&self, address: VirtAddr) -> bool {
        self.segment(address).is_some()
    }

    fn segment(&self, address: VirtAddr) -> Option<&Segment> {
        let after = self.segments.partition_point(|s| s.start() <= address.0);
        self.segments[..after]
            .last()
            .filter(|s| s.contains(address))
    }
}

fn range(segment: &Segment) -> Range<VirtAddr> {
    VirtAddr(segment.start())..VirtAddr(segment.start() + segment.len)
}

fn read_segments(
    source: &Source,
    header: &FileHeader,
    path: &Path,
    code: Code,
) -> Result<Vec<Segment>, ElfError> {
    // Where the first segment is code, relocations and constants lie in it (`-z noseparate-code`).
    let mut loadable = header.program_headers.iter().filter(|h| h.is_load());
    let is_apart = loadable.next().is_some_and(|first| !is_executable(first));
    let left_out = |header: &ProgramHeader| {
        let is_there = header.offset.checked_add(header.file_size);
        code == Code::LeftOut
            && is_apart
            && is_executable(header)
            && is_there.is_some_and(|end| end <= source.len())
    };
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
        let bytes = if left_out(header) {
            Vec::new()
        } else {
            source.read(path, "a loadable segment", header.offset, header.file_size)?
        };
        segments.push(Segment {
            header: *header,
            bytes,
            len: header.file_size,
        });
    }
    if !segments.iter().any(Segment::is_executable) {
        return Err(malformed("it has no executable segment"));
    }
    Ok(segments)
}
