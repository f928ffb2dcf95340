//! The headers of an ELF file: what is loaded of it, and its sections, where it says.

use object::{
    elf::{self, FileHeader64, ProgramHeader64, SectionHeader64},
    endian::LittleEndian as Little,
    pod,
    read::elf::{FileHeader, SectionHeader},
};

use super::source::ByteSource;

/// More program headers than any linker writes; each is 56 bytes.
const MAX_PROGRAM_HEADERS: u16 = 256;
/// More sections than a linked image has in practice (object files with a section a function are
/// not mapped).
const MAX_SECTIONS: u16 = 4096;
/// Section names are read up to this many bytes in total.
const MAX_NAMES: u64 = 1 << 20;

/// The headers of an image.
pub(super) struct Headers {
    file: FileHeader64<Little>,
    pub(super) program: Vec<ProgramHeader64<Little>>,
}

impl Headers {
    pub(super) fn read(source: &(impl ByteSource + ?Sized)) -> Option<Self> {
        let bytes = source.read(0, size_of::<FileHeader64<Little>>())?;
        let (header, _) = pod::from_bytes::<FileHeader64<Little>>(&bytes).ok()?;
        if !header.is_supported() || !header.is_class_64() || !header.is_little_endian() {
            return None;
        }
        Some(Self {
            file: *header,
            program: program_headers(source, header)?,
        })
    }

    /// Its sections.
    pub(super) fn sections(&self, source: &(impl ByteSource + ?Sized)) -> Sections {
        Sections::read(source, &self.file)
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

/// The section headers, where there are any.
pub(super) struct Sections {
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
    pub(super) fn find(&self, name: &str) -> Option<(u64, u64, u64)> {
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
