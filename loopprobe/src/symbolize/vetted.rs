//! What blazesym may be given of files that are not root's.
//!
//! blazesym 0.2.7 trusts their debug information in two ways. It descends into inlined functions by
//! recursion, one call for an entry that can have a single byte, so a crafted file overflows the
//! stack; and it unpacks compressed sections whatever their size. It also reads section tables of
//! forms that loopprobe does not check: those are refused.

use std::{
    collections::HashSet,
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use gimli::{DebugAbbrev, DebugInfo, EndianSlice, EntriesRaw, LittleEndian, constants as dw};
use object::elf;

use crate::elf::Sections;

/// Functions that are inlined into each other. Compilers inline some dozens deep; a level takes
/// blazesym less than a kilobyte of stack.
const MAX_INLINED: usize = 500;
/// What the compressed sections of a file may unpack to in all, in bytes.
const MAX_UNPACKED: u64 = 1 << 30;
/// A gigabyte of debug information takes less.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Entries between two looks at the clock.
const ENTRIES_A_LOOK: usize = 1 << 16;

/// Whether blazesym can read a file in bounded memory. `path` leads to the same file.
pub(super) fn is_fit(file: &File, path: &Path) -> bool {
    if !has_common_header(file) {
        return false;
    }
    let Ok(sections) = Sections::open(path) else {
        return false;
    };
    let mut names = HashSet::new();
    let is_new = |name: &str| !name.starts_with(".debug_") || names.insert(name.to_owned());
    sections.names().all(is_new)
        && sections.unpack_to(MAX_UNPACKED)
        && debug_info_is_fit(&sections, Instant::now() + TIME_LIMIT).unwrap_or(false)
}

/// Whether the file is a little-endian 64-bit program or library that has no sections, or says how
/// many in its header (the gABI's `Elf64_Ehdr`). Linkers write nothing else below 65280 sections.
fn has_common_header(file: &File) -> bool {
    let mut header = [0; 64];
    if file.read_exact_at(&mut header, 0).is_err() {
        return false;
    }
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let (size, count, names) = (half(58), half(60), half(62));
    let sections = header[40..48] != [0; 8];
    let kind = elf::FileType(half(16));
    header[4] == elf::ELFCLASS64.0
        && header[5] == elf::ELFDATA2LSB.0
        && (kind == elf::ET_EXEC || kind == elf::ET_DYN)
        && (!sections || (size == 64 && names < count && count < elf::SHN_LORESERVE))
}

/// `None` if a section cannot be read.
fn debug_info_is_fit(sections: &Sections, deadline: Instant) -> Option<bool> {
    let Some(info) = sections.data(".debug_info").ok()? else {
        return Some(true);
    };
    let abbreviations = sections.data(".debug_abbrev").ok()?.unwrap_or_default();
    Some(inlining_is_bounded(&info, &abbreviations, deadline))
}

/// Whether no unit inlines deeper than the limit. A unit ends where it cannot be read; blazesym
/// reads no further either.
fn inlining_is_bounded(info: &[u8], abbreviations: &[u8], deadline: Instant) -> bool {
    let info = DebugInfo::new(info, LittleEndian);
    let debug_abbrev = DebugAbbrev::new(abbreviations, LittleEndian);
    let mut units = info.units();
    while let Ok(Some(unit)) = units.next() {
        if Instant::now() > deadline {
            return false;
        }
        let Ok(abbreviations) = unit.abbreviations(&debug_abbrev) else {
            continue;
        };
        let Ok(entries) = unit.entries_raw(&abbreviations, None) else {
            continue;
        };
        if !unit_is_bounded(entries, deadline).unwrap_or(true) {
            return false;
        }
    }
    true
}

fn unit_is_bounded(
    mut entries: EntriesRaw<'_, EndianSlice<'_, LittleEndian>>,
    deadline: Instant,
) -> gimli::Result<bool> {
    let mut inlined: Vec<isize> = Vec::new();
    let mut seen = 0;
    while !entries.is_empty() {
        seen += 1;
        if seen % ENTRIES_A_LOOK == 0 && Instant::now() > deadline {
            return Ok(false);
        }
        let depth = entries.next_depth();
        while inlined.last().is_some_and(|around| *around >= depth) {
            inlined.pop();
        }
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        if abbreviation.tag() == dw::DW_TAG_inlined_subroutine {
            inlined.push(depth);
            if inlined.len() > MAX_INLINED {
                return Ok(false);
            }
        }
        entries.skip_attributes(abbreviation.attributes())?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::ZlibEncoder};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    const PACKED: u64 = elf::SHF_COMPRESSED.0;

    /// An abbreviation each for a unit and for an inlined function, neither with any attribute, and
    /// both with children.
    const ABBREVIATIONS: [u8; 11] = [1, 0x11, 1, 0, 0, 2, 0x1d, 1, 0, 0, 0];

    /// A unit of DWARF 4 with functions that are inlined into each other.
    fn debug_info(depth: usize) -> Vec<u8> {
        let mut entries = vec![1];
        entries.resize(1 + depth, 2);
        entries.resize(2 + 2 * depth, 0);
        let mut info = (7 + entries.len() as u32).to_le_bytes().to_vec();
        info.extend([4, 0, 0, 0, 0, 0, 8]);
        info.extend(entries);
        info
    }

    fn packed(bytes: &[u8], size: u64) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        let mut section = elf::ELFCOMPRESS_ZLIB.0.to_le_bytes().to_vec();
        section.extend([0; 4]);
        section.extend(size.to_le_bytes());
        section.extend(1_u64.to_le_bytes());
        section.extend(encoder.finish().unwrap());
        section
    }

    /// A library with these sections, and one with their names; their headers come last.
    fn library(sections: &[(&str, u64, &[u8])]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(64, 0);
        let (mut names, mut table) = (vec![0], Vec::new());
        let name = |names: &mut Vec<u8>, name: &str| {
            names.extend(name.as_bytes());
            names.push(0);
            (names.len() - name.len() - 1) as u32
        };
        let mut add = |bytes: &mut Vec<u8>, name: u32, flags: u64, data: &[u8]| {
            table.extend(name.to_le_bytes());
            table.extend(elf::SHT_PROGBITS.0.to_le_bytes());
            let words = [flags, 0, bytes.len() as u64, data.len() as u64, 0, 0, 0];
            table.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            table.truncate(table.len() - 8);
            table.extend([0; 8]);
            bytes.extend(data);
        };
        for (section, flags, data) in sections {
            let name = name(&mut names, section);
            add(&mut bytes, name, *flags, data);
        }
        let own = name(&mut names, ".shstrtab");
        add(&mut bytes, own, 0, &names);
        let at = (bytes.len() as u64).to_le_bytes();
        bytes.extend(table);
        bytes[16] = 3;
        bytes[40..48].copy_from_slice(&at);
        bytes[58] = 64;
        bytes[60] = sections.len() as u8 + 1;
        bytes[62] = sections.len() as u8;
        bytes
    }

    fn fits(bytes: &[u8]) -> bool {
        let file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all_at(bytes, 0).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        is_fit(&file, Path::new(&path))
    }

    fn inlined(depth: usize) -> Vec<u8> {
        library(&[
            (".debug_abbrev", 0, &ABBREVIATIONS),
            (".debug_info", 0, &debug_info(depth)),
        ])
    }

    #[test]
    fn functions_are_inlined_to_a_limit() {
        assert!(fits(&inlined(MAX_INLINED)));
        assert!(!fits(&inlined(MAX_INLINED + 1)));
        assert!(!fits(&inlined(1 << 20)));
    }

    #[test]
    fn compressed_sections_must_be_what_they_say() {
        let zeros = vec![0; 1 << 20];
        let size = zeros.len() as u64;
        let section = |size| library(&[(".debug_str", PACKED, &packed(&zeros, size))]);
        assert!(fits(&section(size)));
        for other in [0, size - 1, size + 1, 1 << 40, u64::MAX] {
            assert!(!fits(&section(other)), "{other}");
        }
        let info = packed(
            &debug_info(MAX_INLINED + 1),
            debug_info(MAX_INLINED + 1).len() as u64,
        );
        let hidden = library(&[
            (".debug_abbrev", 0, &ABBREVIATIONS),
            (".debug_info", PACKED, &info),
        ]);
        assert!(!fits(&hidden));
    }

    #[test]
    fn sections_that_could_be_mistaken_for_others_are_refused() {
        let first = debug_info(1);
        let second = debug_info(MAX_INLINED + 1);
        let twice = library(&[
            (".debug_abbrev", 0, &ABBREVIATIONS),
            (".debug_info", 0, &first),
            (".debug_info", 0, &second),
        ]);
        assert!(!fits(&twice));
        // The count and the names of the sections in the first section's header, as large files
        // have them.
        for (at, value) in [(60, 0), (62, 0xffff_u16)] {
            let mut extended = inlined(1);
            extended[at..at + 2].copy_from_slice(&value.to_le_bytes());
            assert!(!fits(&extended), "{at}");
        }
    }

    #[test]
    fn what_compilers_write_is_fit() {
        let own = File::open("/proc/self/exe").unwrap();
        assert!(is_fit(&own, Path::new("/proc/self/exe")));
    }
}
