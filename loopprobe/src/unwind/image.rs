//! The segments and call frame information of an ELF file, all that walking a stack takes.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, LittleEndian, UnwindSection};
use object::{
    elf::{self, FileHeader64, ProgramHeader64, SectionHeader64},
    endian::LittleEndian as Little,
    pod,
    read::elf::{FileHeader, ProgramHeader, SectionHeader},
};

use super::section::{Section, SharedBytes};
use super::{bounded, source::ByteSource};
use crate::elf::{FileOffset, VirtAddr};

/// More program headers than any linker writes; each is 56 bytes.
const MAX_PROGRAM_HEADERS: u16 = 256;
/// More sections than a linked image has in practice (object files with a section a function are
/// not mapped).
const MAX_SECTIONS: u16 = 4096;
/// The largest unwind section that is read. Chromium's `.eh_frame`, among the largest, has about 30
/// MiB.
const MAX_UNWIND_BYTES: u64 = 128 << 20;
/// Programs are mapped below this address (`TASK_SIZE_MAX` of x86-64 with four levels of page
/// tables).
const MAX_ADDRESS: u64 = 1 << 47;
/// Section names are read up to this many bytes in total.
const MAX_NAMES: u64 = 1 << 20;

/// A piece of an image that is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub offset: u64,
    pub file_size: u64,
    pub address: u64,
    pub executable: bool,
}

impl Segment {
    /// Whether it can be mapped: neither its addresses nor its place in the file pass what there
    /// can be.
    fn is_possible(&self) -> bool {
        let ends_by = |start: u64, limit: u64| {
            start
                .checked_add(self.file_size)
                .is_some_and(|end| end <= limit)
        };
        ends_by(self.address, MAX_ADDRESS) && ends_by(self.offset, i64::MAX as u64)
    }
}

/// What unwinding needs of an ELF image: its segments and its call frame information. Section
/// headers are used where they exist and not missed where they do not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub segments: Vec<Segment>,
    pub eh_frame_hdr: Option<Section>,
    pub eh_frame: Option<Section>,
    pub debug_frame: Option<SharedBytes>,
}

impl Image {
    /// Reads an image; `None` where the bytes are no 64-bit little-endian ELF file with segments
    /// that can be mapped.
    pub(crate) fn read(source: &(impl ByteSource + ?Sized)) -> Option<Self> {
        let header = source.read(0, size_of::<FileHeader64<Little>>())?;
        let (header, _) = pod::from_bytes::<FileHeader64<Little>>(&header).ok()?;
        if !header.is_supported() || !header.is_class_64() || !header.is_little_endian() {
            return None;
        }
        let segments = program_headers(source, header)?;
        let loads: Vec<Segment> = segments
            .iter()
            .filter(|segment| segment.p_type(Little) == elf::PT_LOAD)
            .map(|segment| Segment {
                offset: segment.p_offset(Little),
                file_size: segment.p_filesz(Little),
                address: segment.p_vaddr(Little),
                executable: segment.p_flags(Little).0 & elf::PF_X.0 != 0,
            })
            .collect();
        if !loads.iter().all(Segment::is_possible) {
            return None;
        }
        let mut image = Self {
            segments: loads,
            ..Self::default()
        };
        let sections = Sections::read(source, header);
        image.find_eh_frame(source, &segments, &sections);
        image.debug_frame = sections
            .find(".debug_frame")
            .and_then(|(offset, _, size)| read_shared(source, offset, size))
            .filter(|bytes| bounded::debug_frame_is_bounded(bytes));
        Some(image)
    }

    /// Whether there is call frame information of any kind.
    pub(crate) fn has_unwind_info(&self) -> bool {
        self.eh_frame.is_some() || self.debug_frame.is_some()
    }

    /// The file offset of an address of the image.
    pub(crate) fn file_offset(&self, address: VirtAddr) -> Option<FileOffset> {
        let segment = self.segment_at(address.0)?;
        Some(FileOffset(segment.offset + (address.0 - segment.address)))
    }

    /// Whether the unwind information for an address can be evaluated in bounded time.
    pub(crate) fn is_bounded_at(&self, address: VirtAddr) -> bool {
        match (&self.eh_frame_hdr, &self.eh_frame) {
            (Some(header), Some(frames)) => bounded::at(header, frames, address),
            _ => true,
        }
    }

    /// The function that covers an address, as the unwind table knows it.
    pub(crate) fn function_at(&self, address: VirtAddr) -> Option<Range<VirtAddr>> {
        let header = self.eh_frame_hdr.as_ref()?;
        let frames = self.eh_frame.as_ref()?;
        let bases = BaseAddresses::default()
            .set_eh_frame_hdr(header.address)
            .set_eh_frame(frames.address);
        let parsed = EhFrameHdr::new(&header.bytes, LittleEndian)
            .parse(&bases, 8)
            .ok()?;
        let mut eh_frame = EhFrame::new(&frames.bytes, LittleEndian);
        eh_frame.set_address_size(8);
        let entry = parsed
            .table()?
            .fde_for_address(&eh_frame, &bases, address.0, EhFrame::cie_from_offset)
            .ok()?;
        entry.contains(address.0).then(|| {
            VirtAddr(entry.initial_address())
                ..VirtAddr(entry.initial_address().wrapping_add(entry.len()))
        })
    }

    /// The segment whose file part holds an address.
    pub(crate) fn segment_at(&self, address: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| {
            address
                .checked_sub(segment.address)
                .is_some_and(|distance| distance < segment.file_size)
        })
    }

    fn find_eh_frame(
        &mut self,
        source: &(impl ByteSource + ?Sized),
        segments: &[ProgramHeader64<Little>],
        sections: &Sections,
    ) {
        let header = segments
            .iter()
            .find(|segment| segment.p_type(Little) == elf::PT_GNU_EH_FRAME)
            .and_then(|segment| {
                Some(Section {
                    address: segment.p_vaddr(Little),
                    bytes: read_shared(source, segment.p_offset(Little), segment.p_filesz(Little))?,
                })
            });
        let named = sections.find(".eh_frame");
        let start = header.as_ref().and_then(eh_frame_start);
        let (address, offset, size) = match (start, named) {
            (_, Some((offset, address, size))) if start.is_none_or(|start| start == address) => {
                (address, offset, size)
            }
            (Some(address), _) => {
                let Some(segment) = self.segment_at(address) else {
                    return;
                };
                let skipped = address - segment.address;
                (
                    address,
                    segment.offset + skipped,
                    segment.file_size - skipped,
                )
            }
            (None, _) => return,
        };
        self.eh_frame = read_shared(source, offset, size).map(|bytes| Section { address, bytes });
        self.eh_frame_hdr = header.filter(|_| start == Some(address));
        if self.eh_frame_hdr.is_none() {
            // All of it is indexed when the module is added, so all of it is looked through.
            self.eh_frame = self.eh_frame.take().filter(bounded::eh_frame_is_bounded);
        }
    }
}

/// Where `.eh_frame` begins, if the header also has the search table.
fn eh_frame_start(header: &Section) -> Option<u64> {
    let bases = BaseAddresses::default().set_eh_frame_hdr(header.address);
    let parsed = EhFrameHdr::new(&header.bytes, LittleEndian)
        .parse(&bases, 8)
        .ok()?;
    parsed.table()?;
    match parsed.eh_frame_ptr() {
        gimli::Pointer::Direct(address) => Some(address),
        gimli::Pointer::Indirect(_) => None,
    }
}

fn program_headers(
    source: &(impl ByteSource + ?Sized),
    header: &FileHeader64<Little>,
) -> Option<Vec<ProgramHeader64<Little>>> {
    let count = header.e_phnum.get(Little);
    let entry = size_of::<ProgramHeader64<Little>>();
    if count == 0
        || count > MAX_PROGRAM_HEADERS
        || usize::from(header.e_phentsize.get(Little)) != entry
    {
        return None;
    }
    let bytes = source.read(header.e_phoff.get(Little), usize::from(count) * entry)?;
    let (headers, _) = pod::slice_from_bytes(&bytes, usize::from(count)).ok()?;
    Some(headers.to_vec())
}

fn read_shared(source: &(impl ByteSource + ?Sized), offset: u64, size: u64) -> Option<SharedBytes> {
    if size == 0 || size > MAX_UNWIND_BYTES {
        return None;
    }
    let bytes = source.read(offset, usize::try_from(size).ok()?)?;
    Some(SharedBytes::from(bytes.as_slice()))
}

/// The section headers, where there are any.
struct Sections {
    headers: Vec<SectionHeader64<Little>>,
    names: Vec<u8>,
}

impl Sections {
    fn read(source: &(impl ByteSource + ?Sized), header: &FileHeader64<Little>) -> Self {
        Self::try_read(source, header).unwrap_or(Self {
            headers: Vec::new(),
            names: Vec::new(),
        })
    }

    fn try_read(
        source: &(impl ByteSource + ?Sized),
        header: &FileHeader64<Little>,
    ) -> Option<Self> {
        let count = header.e_shnum.get(Little).min(MAX_SECTIONS);
        let bytes = source.read(
            header.e_shoff.get(Little),
            usize::from(count) * size_of::<SectionHeader64<Little>>(),
        )?;
        let (headers, _) =
            pod::slice_from_bytes::<SectionHeader64<Little>>(&bytes, usize::from(count)).ok()?;
        let names = headers.get(usize::from(header.e_shstrndx.get(Little).0))?;
        let size = names.sh_size(Little).min(MAX_NAMES);
        let names = source.read(names.sh_offset(Little), usize::try_from(size).ok()?)?;
        Some(Self {
            headers: headers.to_vec(),
            names,
        })
    }

    /// (file offset, address, size) of the section with a name, if its bytes are in the file as
    /// they are.
    fn find(&self, name: &str) -> Option<(u64, u64, u64)> {
        let section = self.headers.iter().find(|section| {
            self.names
                .get(section.sh_name(Little) as usize..)
                .and_then(|rest| rest.strip_prefix(name.as_bytes()))
                .is_some_and(|rest| rest.first() == Some(&0))
        })?;
        let stored = section.sh_type(Little) != elf::SHT_NOBITS
            && section.sh_flags(Little).0 & elf::SHF_COMPRESSED.0 == 0;
        stored.then(|| {
            (
                section.sh_offset(Little),
                section.sh_addr(Little),
                section.sh_size(Little),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn own_bytes() -> Vec<u8> {
        fs::read("/proc/self/exe").expect("the test's own executable is readable")
    }

    #[test]
    fn the_table_is_found_without_section_headers() {
        let mut bytes = own_bytes();
        let whole = Image::read(bytes.as_slice()).expect("an ELF file");
        // e_shoff, e_shnum and e_shstrndx.
        bytes[0x28..0x30].fill(0);
        bytes[0x3c..0x40].fill(0);
        let stripped = Image::read(bytes.as_slice()).expect("an ELF file");
        let (whole, stripped) = (
            whole.eh_frame.expect("unwind information"),
            stripped.eh_frame.expect("unwind information"),
        );
        assert_eq!(whole.address, stripped.address);
        assert!(stripped.bytes.starts_with(&whole.bytes));
    }

    #[test]
    fn a_function_is_found_by_any_of_its_addresses() {
        let image = Image::read(own_bytes().as_slice()).expect("an ELF file");
        let segment = image
            .segments
            .iter()
            .find(|segment| segment.executable)
            .expect("code");
        let range = (0..segment.file_size)
            .step_by(64)
            .find_map(|step| image.function_at(VirtAddr(segment.address + step)))
            .expect("a function");
        assert_eq!(image.function_at(range.start), Some(range.clone()));
        assert_eq!(
            image.function_at(VirtAddr(range.end.0 - 1)),
            Some(range.clone())
        );
    }

    #[test]
    fn cut_and_altered_files_give_no_panic() {
        let bytes = own_bytes();
        for len in (0..4096).step_by(7) {
            let _ = Image::read(&bytes[..len]);
        }
        for at in 0..1024 {
            let mut altered = bytes[..bytes.len().min(1 << 20)].to_vec();
            altered[at] ^= 0xff;
            if let Some(image) = Image::read(altered.as_slice()) {
                let _ = image.function_at(VirtAddr(0x1000));
            }
        }
    }
}
