//! What a program or library loads, and its addresses before any load bias.

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
    segments::{Code, Segment, segments},
    source::Source,
    starts::Starts,
};

/// Names of imported functions are compared with short ones.
const MAX_IMPORT: usize = 64;

/// What an ELF program or shared object loads: its segments and what they say about themselves.
///
/// Only program headers are needed, so files without section headers work. Of the loadable segments
/// is held in memory what was asked for, until the image is dropped; of debug information nothing.
/// Bytes that the file does not give any more, because it was cut short or written to, are absent.
/// Addresses are the file's own ([`VirtAddr`]), before any load bias.
#[derive(Debug)]
pub struct Image {
    pub(super) segments: Vec<Segment>,
    pub(super) known: Arc<Known>,
    /// `None` where code is left out. It is that of these very bytes.
    pub(super) digest: OnceLock<Option<ImageDigest>>,
}

/// What is known of an image's file, whichever of its bytes are in memory.
#[derive(Debug)]
pub(super) struct Known {
    path: PathBuf,
    pub(super) source: Arc<Source>,
    architecture: Architecture,
    fixed_address: bool,
    pub(super) headers: Vec<ProgramHeader>,
    build_id: Option<String>,
    pub(super) pointers: Pointers,
    pub(super) functions: OnceLock<FunctionTable>,
    /// `None` where they are described.
    pub(super) starts: OnceLock<Option<Starts>>,
}

impl Image {
    /// Reads the image at `path`.
    ///
    /// # Errors
    /// When it cannot be read, is of no known [`Architecture`], or is malformed.
    pub fn open(path: &Path) -> Result<Self, ElfError> {
        Self::load(path, Source::open(path)?, Code::Read)
    }

    /// Reads the image from an open file of a process of this machine, such as
    /// `/proc/PID/map_files/...`; `path` is its name for people.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn from_file(file: File, path: &Path) -> Result<Self, ElfError> {
        Self::load(path, Source::from_file(file, path)?, Code::Read)?.of_host()
    }

    /// The same without the bytes of its code, most of a large program, where the layout keeps code
    /// apart from all else. Addresses in it are known as code all the same.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn without_code(file: File, path: &Path) -> Result<Self, ElfError> {
        Self::load(path, Source::from_file(file, path)?, Code::LeftOut)?.of_host()
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
        let source = Arc::new(source);
        let segments = segments(&source, &header, path, code)?;
        let known = Known {
            path: path.into(),
            source,
            architecture: header.architecture,
            fixed_address: header.fixed_address,
            headers: header.program_headers,
            build_id: None,
            pointers: Pointers::default(),
            functions: OnceLock::new(),
            starts: OnceLock::new(),
        };
        let mut image = Self::of(segments, Arc::new(known));
        let (build_id, pointers) = (build_id(&image), relocations::read(&image));
        if let Some(known) = Arc::get_mut(&mut image.known) {
            (known.build_id, known.pointers) = (build_id, pointers);
        }
        // Relocations lie apart from what is looked at next.
        let afresh = image.segments.iter().map(Segment::afresh);
        if let Some(segments) = afresh.collect::<Option<_>>() {
            image.segments = segments;
        }
        Ok(image)
    }

    pub(super) fn of(segments: Vec<Segment>, known: Arc<Known>) -> Self {
        Self {
            segments,
            known,
            digest: OnceLock::new(),
        }
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.known.path
    }

    /// The processor that it is built for.
    pub fn architecture(&self) -> Architecture {
        self.known.architecture
    }

    /// Whether it is linked for one fixed address (`ET_EXEC`): then words are addresses.
    pub fn has_fixed_address(&self) -> bool {
        self.known.fixed_address
    }

    /// The GNU build id, in lower-case hexadecimal.
    pub fn build_id(&self) -> Option<&str> {
        self.known.build_id.as_deref()
    }

    /// The executable segments' parts that the file holds, in ascending order.
    pub fn executable_ranges(&self) -> impl Iterator<Item = Range<VirtAddr>> {
        self.segments
            .iter()
            .filter(|s| s.is_executable())
            .map(Segment::range)
    }

    /// The other loadable segments' parts that the file holds, in ascending order.
    pub fn data_ranges(&self) -> impl Iterator<Item = Range<VirtAddr>> {
        self.segments
            .iter()
            .filter(|s| !s.is_executable())
            .map(Segment::range)
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
        self.segment(address)?;
        Some(self.bytes_up_to(address, len)).filter(|bytes| bytes.len() == len)
    }

    /// At most `len` bytes at `address`, fewer where the segment ends. They are held from then on:
    /// for a pass over many there is [`Image::pieces`].
    pub fn bytes_up_to(&self, address: VirtAddr, len: usize) -> &[u8] {
        let segment = self.segment(address);
        segment.map_or(&[], |segment| segment.get(&self.known.source, address, len))
    }

    /// The little-endian word at `address`, as the file holds it (before relocation).
    pub fn u64_at(&self, address: VirtAddr) -> Option<u64> {
        u64_at(self.bytes_at(address, 8)?, 0)
    }

    /// The little-endian 32-bit word at `address`.
    pub fn u32_at(&self, address: VirtAddr) -> Option<u32> {
        u32_at(self.bytes_at(address, 4)?, 0)
    }

    /// The bytes from `address` to the next NUL, which must follow within `max` bytes.
    pub fn cstr(&self, address: VirtAddr, max: usize) -> Option<&[u8]> {
        let bytes = self.bytes_up_to(address, max);
        bytes.iter().position(|b| *b == 0).map(|end| &bytes[..end])
    }

    /// The address that the word at `address` holds once the image is loaded, if it is a pointer
    /// into the image.
    pub fn pointer_at(&self, address: VirtAddr) -> Option<VirtAddr> {
        let relocated = self.known.pointers.get(address);
        relocated.or_else(|| {
            let word = self.known.fixed_address.then(|| self.u64_at(address))?;
            Some(VirtAddr(word?)).filter(|target| self.is_mapped(*target))
        })
    }

    /// Whether the loader puts the number of a module with thread-local variables into the word at
    /// `address`: the first of the two that `__tls_get_addr` takes.
    pub fn is_thread_local_module(&self, address: VirtAddr) -> bool {
        self.known.pointers.is_module(address)
    }

    /// The name of the symbol of another file whose address the loader puts into the word at
    /// `address`: what a stripped file says of the functions that it calls in libraries.
    pub fn import_at(&self, address: VirtAddr) -> Option<&[u8]> {
        self.cstr(self.known.pointers.import(address)?, MAX_IMPORT)
    }

    /// The file's length in bytes.
    pub fn file_len(&self) -> u64 {
        self.known.source.len()
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
        self.known
            .source
            .read(&self.known.path, what, offset.0, size)
    }

    /// The file's sections; none where the section headers were removed.
    ///
    /// # Errors
    /// When the section headers lie outside of the file.
    pub fn sections(&self) -> Result<Sections, ElfError> {
        Sections::read(&self.known.path, Arc::clone(&self.known.source))
    }

    pub(super) fn header(&self, kind: elf::ProgramType) -> Option<&ProgramHeader> {
        self.known.headers.iter().find(|h| h.kind == kind.0)
    }

    pub(super) fn headers(&self, kind: elf::ProgramType) -> impl Iterator<Item = &ProgramHeader> {
        self.known.headers.iter().filter(move |h| h.kind == kind.0)
    }

    /// How many bytes all segments hold.
    pub(super) fn loaded(&self) -> u64 {
        self.segments.iter().map(|s| s.len).sum()
    }

    pub(super) fn is_mapped(&self, address: VirtAddr) -> bool {
        self.segment(address).is_some()
    }

    pub(super) fn segment(&self, address: VirtAddr) -> Option<&Segment> {
        let after = self.segments.partition_point(|s| s.start() <= address.0);
        self.segments[..after]
            .last()
            .filter(|s| s.contains(address))
    }
}
