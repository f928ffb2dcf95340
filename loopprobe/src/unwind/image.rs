//! The segments and call frame information of an ELF file, all that walking a stack takes.

use std::{fs::File, ops::Range, sync::OnceLock};

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, LittleEndian, UnwindSection};
use object::{
    elf::{self, ProgramHeader64},
    endian::LittleEndian as Little,
    read::elf::ProgramHeader,
};

use super::{
    bounded,
    headers::{Headers, Sections},
    host,
    section::{Section, SharedBytes},
    source::ByteSource,
};
use crate::elf::{FileOffset, FileState, VirtAddr};

/// The largest unwind section that is read. Chromium's `.eh_frame`, among the largest, has about 30
/// MiB.
const MAX_UNWIND_BYTES: u64 = 128 << 20;
/// Programs are mapped below this address (`TASK_SIZE_MAX` of x86-64 with four levels of page
/// tables).
const MAX_ADDRESS: u64 = 1 << 47;

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

/// What unwinding needs of an ELF image: its segments and its call frame information.
#[derive(Debug, Default)]
pub(crate) struct Image {
    pub segments: Vec<Segment>,
    frames: OnceLock<CallFrames>,
    /// Where call frame information is read from once it is asked for.
    file: Option<(File, FileState)>,
}

/// Call frame information. Section headers are used where they exist and not missed where they do
/// not.
#[derive(Debug, Default)]
pub(crate) struct CallFrames {
    pub eh_frame_hdr: Option<Section>,
    pub eh_frame: Option<Section>,
    pub debug_frame: Option<SharedBytes>,
}

impl Image {
    /// Reads an image; `None` where the bytes are no 64-bit little-endian ELF file with segments
    /// that can be mapped.
    pub(crate) fn read(source: &(impl ByteSource + ?Sized)) -> Option<Self> {
        let headers = Headers::read(source)?;
        Some(Self {
            segments: segments(&headers)?,
            frames: CallFrames::read(source, &headers).into(),
            file: None,
        })
    }

    /// The same of a file, whose call frame information is read when it is first asked for: most
    /// libraries of a process are on no stack. There is none if the file was written to meanwhile.
    pub(crate) fn of_file(file: &File) -> Option<Self> {
        let segments = segments(&Headers::read(file)?)?;
        let state = FileState::of_open(file).ok()?;
        Some(Self {
            segments,
            frames: OnceLock::new(),
            file: Some((file.try_clone().ok()?, state)),
        })
    }

    /// Its call frame information.
    pub(crate) fn frames(&self) -> &CallFrames {
        self.frames.get_or_init(|| {
            let Some((file, state)) = &self.file else {
                return CallFrames::default();
            };
            let headers = Headers::read(file);
            let found = headers.map(|headers| CallFrames::read(file, &headers));
            let now = FileState::of_open(file);
            let is_same = now.is_ok_and(|now| now.has_same_bytes(state));
            found.filter(|_| is_same).unwrap_or_default()
        })
    }

    /// Whether there is call frame information of any kind.
    pub(crate) fn has_unwind_info(&self) -> bool {
        let frames = self.frames();
        frames.eh_frame.is_some() || frames.debug_frame.is_some()
    }

    /// The file offset of an address of the image.
    pub(crate) fn file_offset(&self, address: VirtAddr) -> Option<FileOffset> {
        let segment = self.segment_at(address.0)?;
        Some(FileOffset(segment.offset + (address.0 - segment.address)))
    }

    /// Whether the unwind information for an address can be evaluated in bounded time.
    pub(crate) fn is_bounded_at(&self, address: VirtAddr) -> bool {
        let frames = self.frames();
        match (&frames.eh_frame_hdr, &frames.eh_frame) {
            (Some(header), Some(frames)) => bounded::at(header, frames, address),
            _ => true,
        }
    }

    /// The function that covers an address, as the unwind table knows it.
    pub(crate) fn function_at(&self, address: VirtAddr) -> Option<Range<VirtAddr>> {
        let header = self.frames().eh_frame_hdr.as_ref()?;
        let frames = self.frames().eh_frame.as_ref()?;
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
        segment_at(&self.segments, address)
    }
}

fn segment_at(segments: &[Segment], address: u64) -> Option<&Segment> {
    segments.iter().find(|segment| {
        address
            .checked_sub(segment.address)
            .is_some_and(|distance| distance < segment.file_size)
    })
}

/// What is loaded; `None` if that cannot be.
fn segments(headers: &Headers) -> Option<Vec<Segment>> {
    let loads = headers.program.iter();
    let loads: Vec<Segment> = loads
        .filter(|segment| segment.p_type(Little) == elf::PT_LOAD)
        .map(|segment| Segment {
            offset: segment.p_offset(Little),
            file_size: segment.p_filesz(Little),
            address: segment.p_vaddr(Little),
            executable: segment.p_flags(Little).0 & elf::PF_X.0 != 0,
        })
        .collect();
    loads.iter().all(Segment::is_possible).then_some(loads)
}

impl CallFrames {
    fn read(source: &(impl ByteSource + ?Sized), headers: &Headers) -> Self {
        let sections = headers.sections(source);
        let mut frames = Self::default();
        if let Some(loads) = segments(headers) {
            frames.find_eh_frame(source, (&headers.program, &loads), &sections);
        }
        frames.debug_frame = sections
            .find(".debug_frame")
            .and_then(|(offset, _, size)| read_shared(source, offset, size))
            .filter(|bytes| bounded::debug_frame_is_bounded(bytes));
        frames
    }

    fn find_eh_frame(
        &mut self,
        source: &(impl ByteSource + ?Sized),
        (segments, loads): (&[ProgramHeader64<Little>], &[Segment]),
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
                let Some(segment) = segment_at(loads, address) else {
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
        self.eh_frame = read(source, offset, size).map(|bytes| Section {
            address,
            bytes: SharedBytes::from(&*host::call_frames(bytes)),
        });
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

fn read_shared(source: &(impl ByteSource + ?Sized), offset: u64, size: u64) -> Option<SharedBytes> {
    Some(SharedBytes::from(read(source, offset, size)?.as_slice()))
}

fn read(source: &(impl ByteSource + ?Sized), offset: u64, size: u64) -> Option<Vec<u8>> {
    if size == 0 || size > MAX_UNWIND_BYTES {
        return None;
    }
    source.read(offset, usize::try_from(size).ok()?)
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
        let eh_frame = |image: &Image| image.frames().eh_frame.clone();
        let (whole, stripped) = (
            eh_frame(&whole).expect("unwind information"),
            eh_frame(&stripped).expect("unwind information"),
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
