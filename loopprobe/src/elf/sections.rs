//! Sections by name, decompressed, where a file has any: symbols and debug information.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Read as _},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::bufread::ZlibDecoder;
use object::{CompressedData, CompressionFormat, elf};
use sha2::{Digest as _, Sha256};

use super::{
    ElfError, FileState,
    build_id::build_id_in,
    header::{u16_at, u32_at, u64_at},
    source::Source,
};

const SECTION_HEADER_SIZE: u64 = 64;
/// Without the ELF extension for more than 65279 sections, which linked programs do not need.
const MAX_SECTIONS: u64 = 0xff00;
const MAX_NAMES: u64 = 1 << 20;
/// The size of the gABI's `Elf64_Chdr`.
const COMPRESSION_HEADER: usize = 24;
/// Longer section names are none that is looked for.
const MAX_NAME: usize = 64;
/// The most bytes of one section that are read. The largest debug sections seen have a few hundred
/// MiB.
const MAX_SECTION: u64 = 1 << 30;

/// A section's place in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub name: String,
    pub kind: u32,
    pub flags: u64,
    pub address: u64,
    pub offset: u64,
    pub size: u64,
    pub link: u32,
}

/// The sections of an ELF file: symbols and debug information, where it has any. Programs run
/// without them.
#[derive(Clone, Debug)]
pub struct Sections {
    path: PathBuf,
    source: Arc<Source>,
    table: Vec<Section>,
}

impl Sections {
    /// Opens a file that may hold nothing but debug information.
    ///
    /// # Errors
    /// When it cannot be read or is not an ELF file.
    pub fn open(path: &Path) -> Result<Self, ElfError> {
        let source = Source::open(path)?;
        let magic = source.read(path, "the magic", 0, source.len().min(4))?;
        if magic != elf::ELFMAG {
            return Err(ElfError::NotElf { path: path.into() });
        }
        Self::read(path, Arc::new(source))
    }

    pub(super) fn read(path: &Path, source: Arc<Source>) -> Result<Self, ElfError> {
        let table = read_table(path, &source)?;
        Ok(Self {
            path: path.into(),
            source,
            table,
        })
    }

    /// Of an open file; `path` is its name for people.
    ///
    /// # Errors
    /// As [`Sections::open`].
    pub(crate) fn of_file(file: File, path: &Path) -> Result<Self, ElfError> {
        Self::read(path, Arc::new(Source::from_file(file, path)?))
    }

    /// The file's state now.
    pub fn state(&self) -> Option<FileState> {
        self.source.state()
    }

    /// Adds where all sections lie to a digest.
    pub(super) fn add_table(&self, digest: &mut Sha256) {
        for section in &self.table {
            let Section { name, kind, .. } = section;
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
            digest.update(kind.to_le_bytes());
            for word in [
                section.flags,
                section.address,
                section.offset,
                section.size,
                section.link.into(),
            ] {
                digest.update(word.to_le_bytes());
            }
        }
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a section of this name has bytes in the file.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The bytes of a section, decompressed; `None` if the file has no such section.
    ///
    /// # Errors
    /// When the section is too large, lies outside of the file, or cannot be decompressed.
    pub fn data(&self, name: &str) -> Result<Option<Vec<u8>>, ElfError> {
        self.find(name)
            .map(|section| self.section_data(section))
            .transpose()
    }

    /// The GNU build id, in lower-case hexadecimal.
    pub fn build_id(&self) -> Option<String> {
        let notes = self
            .table
            .iter()
            .filter(|s| s.kind == elf::SHT_NOTE.0 && s.size <= MAX_NAMES);
        notes
            .filter_map(|notes| self.section_data(notes).ok())
            .find_map(|notes| build_id_in(&notes, 4))
    }

    /// The sections' names. A name that is none, or too long, is empty.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.table.iter().map(|section| section.name.as_str())
    }

    /// Where in the file the sections lie that a process has in memory for its code and its data,
    /// in ascending order of their beginnings; not the tables of symbols.
    pub(crate) fn code_and_data(&self) -> Vec<Range<u64>> {
        let is_loaded = |section: &&Section| {
            section.kind == elf::SHT_PROGBITS.0 && section.flags & elf::SHF_ALLOC.0 != 0
        };
        let loaded = self.table.iter().filter(is_loaded);
        let ranges = loaded.map(|s| s.offset..s.offset.saturating_add(s.size));
        let mut ranges: Vec<_> = ranges.collect();
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        ranges
    }

    /// Whether all sections that are compressed with zlib are sound, and unpack to at most `limit`
    /// bytes together. Nothing is kept of them.
    pub(crate) fn unpack_to(&self, limit: u64) -> bool {
        let packed = || {
            let is_packed = |section: &&Section| section.flags & elf::SHF_COMPRESSED.0 != 0;
            self.table.iter().filter(is_packed)
        };
        // Sections that overlap would have the same bytes read many times.
        let sum = packed().fold(0_u64, |sum, section| sum.saturating_add(section.size));
        let mut left = limit;
        sum <= self.source.len()
            && packed().all(|section| match self.unpacked_size(section, left) {
                Ok(size) => {
                    left -= size.unwrap_or(0);
                    true
                }
                Err(_) => false,
            })
    }

    /// The size that a section has, and says that it has, once unpacked; `None` if it is packed
    /// otherwise than with zlib.
    fn unpacked_size(&self, section: &Section, limit: u64) -> Result<Option<u64>, ElfError> {
        self.check_size(section.size)?;
        let bytes = self
            .source
            .read(&self.path, "a section", section.offset, section.size)?;
        let (Some(kind), Some(size)) = (u32_at(&bytes, 0), u64_at(&bytes, 8)) else {
            return Ok(None);
        };
        if elf::CompressionType(kind) != elf::ELFCOMPRESS_ZLIB {
            return Ok(None);
        }
        let unpacked = ZlibDecoder::new(bytes.get(COMPRESSION_HEADER..).unwrap_or_default());
        // One byte more would show that it goes on.
        let mut unpacked = unpacked.take(size.min(limit).saturating_add(1));
        let found = io::copy(&mut unpacked, &mut io::sink()).ok();
        match found.filter(|found| *found == size && size <= limit) {
            Some(size) => Ok(Some(size)),
            None => Err(self.cannot_unpack()),
        }
    }

    /// A section by its name, even if it has no bytes in the file.
    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.table.iter().find(|s| s.name == name)
    }

    pub(super) fn find(&self, name: &str) -> Option<&Section> {
        self.table
            .iter()
            .find(|s| s.name == name && s.kind != elf::SHT_NOBITS.0 && s.size > 0)
    }

    pub(super) fn linked(&self, section: &Section) -> Option<&Section> {
        self.table.get(section.link as usize)
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn section_data(&self, section: &Section) -> Result<Vec<u8>, ElfError> {
        self.check_size(section.size)?;
        let bytes = self
            .source
            .read(&self.path, "a section", section.offset, section.size)?;
        if section.flags & elf::SHF_COMPRESSED.0 == 0 {
            return Ok(bytes);
        }
        self.decompress(&bytes)
    }

    /// Type, (reserved,) size and alignment come before the compressed bytes.
    fn decompress(&self, bytes: &[u8]) -> Result<Vec<u8>, ElfError> {
        let kind = u32_at(bytes, 0).ok_or_else(|| self.cannot_unpack())?;
        let uncompressed_size = u64_at(bytes, 8).ok_or_else(|| self.cannot_unpack())?;
        self.check_size(uncompressed_size)?;
        let format = match elf::CompressionType(kind) {
            elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
            elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
            _ => return Err(self.cannot_unpack()),
        };
        let data = bytes
            .get(COMPRESSION_HEADER..)
            .ok_or_else(|| self.cannot_unpack())?;
        let compressed = CompressedData {
            format,
            data,
            uncompressed_size,
        };
        compressed
            .decompress()
            .map(Cow::into_owned)
            .map_err(|_| self.cannot_unpack())
    }

    fn cannot_unpack(&self) -> ElfError {
        ElfError::Malformed {
            path: self.path.clone(),
            problem: "a compressed section cannot be unpacked",
        }
    }

    fn check_size(&self, size: u64) -> Result<(), ElfError> {
        if size <= MAX_SECTION {
            return Ok(());
        }
        Err(ElfError::TooLarge {
            path: self.path.clone(),
            what: "a section",
            size,
            limit: MAX_SECTION,
        })
    }
}

fn read_table(path: &Path, source: &Source) -> Result<Vec<Section>, ElfError> {
    let head = source.read(path, "the file header", 0, 64)?;
    let offset = u64_at(&head, 40).unwrap_or(0);
    let [entry_size, count, names] =
        [58, 60, 62].map(|at| u64::from(u16_at(&head, at).unwrap_or(0)));
    if offset == 0 || count == 0 || count > MAX_SECTIONS || entry_size != SECTION_HEADER_SIZE {
        return Ok(Vec::new());
    }
    let bytes = source.read(
        path,
        "the section header table",
        offset,
        count * SECTION_HEADER_SIZE,
    )?;
    let mut table: Vec<(u32, Section)> = bytes.chunks_exact(64).filter_map(parse_section).collect();
    let strings = match table.get(names as usize) {
        Some((_, names)) if names.size > MAX_NAMES => {
            return Err(ElfError::TooLarge {
                path: path.into(),
                what: "the section name table",
                size: names.size,
                limit: MAX_NAMES,
            });
        }
        Some((_, names)) => source.read(path, "the section names", names.offset, names.size)?,
        None => Vec::new(),
    };
    for (name, section) in &mut table {
        section.name = string_at(&strings, *name as usize)
            .filter(|name| name.len() <= MAX_NAME)
            .unwrap_or_default()
            .to_owned();
    }
    Ok(table.into_iter().map(|(_, section)| section).collect())
}

fn parse_section(bytes: &[u8]) -> Option<(u32, Section)> {
    let section = Section {
        name: String::new(),
        kind: u32_at(bytes, 4)?,
        flags: u64_at(bytes, 8)?,
        address: u64_at(bytes, 16)?,
        offset: u64_at(bytes, 24)?,
        size: u64_at(bytes, 32)?,
        link: u32_at(bytes, 40)?,
    };
    Some((u32_at(bytes, 0)?, section))
}

/// The longest symbol name that is read. Deep generics reach a few KiB.
const MAX_STRING: usize = 1 << 14;

/// The NUL-terminated UTF-8 string at `at`.
pub(super) fn string_at(strings: &[u8], at: usize) -> Option<&str> {
    let bytes = strings.get(at..)?;
    let bytes = &bytes[..bytes.len().min(MAX_STRING)];
    let end = memchr::memchr(0, bytes)?;
    std::str::from_utf8(&bytes[..end]).ok()
}
