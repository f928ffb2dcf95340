//! Reads file and program headers; only programs and shared objects for x86_64 and aarch64 pass.

use std::path::Path;

use object::elf;

use super::{Architecture, ElfError, VirtAddr, source::Source};

const FILE_HEADER_SIZE: u64 = 64;
const PROGRAM_HEADER_SIZE: u64 = 56;
/// Linkers emit about a dozen; the kernel refuses more than 64 KiB of them (`fs/binfmt_elf.c`,
/// `load_elf_phdrs`).
const MAX_PROGRAM_HEADERS: u64 = 65536 / PROGRAM_HEADER_SIZE;

/// One program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProgramHeader {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: VirtAddr,
    pub file_size: u64,
    pub memory_size: u64,
    pub align: u64,
}

impl ProgramHeader {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            kind: u32_at(bytes, 0)?,
            flags: u32_at(bytes, 4)?,
            offset: u64_at(bytes, 8)?,
            address: VirtAddr(u64_at(bytes, 16)?),
            file_size: u64_at(bytes, 32)?,
            memory_size: u64_at(bytes, 40)?,
            align: u64_at(bytes, 48)?,
        })
    }

    pub(super) fn is_load(&self) -> bool {
        self.kind == elf::PT_LOAD.0
    }
}

/// The file header's part that matters: how the file is loaded.
#[derive(Debug)]
pub(super) struct FileHeader {
    pub architecture: Architecture,
    /// Linked for one fixed address (`ET_EXEC`).
    pub fixed_address: bool,
    pub program_headers: Vec<ProgramHeader>,
}

impl FileHeader {
    pub(super) fn read(source: &Source, path: &Path) -> Result<Self, ElfError> {
        let head = source.read(path, "the magic", 0, source.len().min(FILE_HEADER_SIZE))?;
        if !head.starts_with(&elf::ELFMAG) {
            return Err(ElfError::NotElf { path: path.into() });
        }
        if head.len() < FILE_HEADER_SIZE as usize {
            return Err(ElfError::Truncated {
                path: path.into(),
                what: "the file header",
                end: FILE_HEADER_SIZE,
                len: source.len(),
            });
        }
        let architecture = architecture(&head, path)?;
        let fixed_address = check_kind(&head, path)?;
        let program_headers = read_program_headers(source, &head, path)?;
        Ok(Self {
            architecture,
            fixed_address,
            program_headers,
        })
    }
}

fn architecture(head: &[u8], path: &Path) -> Result<Architecture, ElfError> {
    let wrong = |machine: String| {
        Err(ElfError::Machine {
            path: path.into(),
            machine,
        })
    };
    if head[4] == elf::ELFCLASS32.0 {
        return wrong("a 32-bit machine".into());
    }
    if head[5] == elf::ELFDATA2MSB.0 {
        return wrong("a big-endian machine".into());
    }
    let machine = elf::Machine(u16_at(head, 18).unwrap_or(0));
    match Architecture::of(machine) {
        Some(known) if head[4] == elf::ELFCLASS64.0 => Ok(known),
        _ if machine == elf::EM_RISCV => wrong("RISC-V".into()),
        _ => wrong(format!("machine {}", machine.0)),
    }
}

fn check_kind(head: &[u8], path: &Path) -> Result<bool, ElfError> {
    let wrong = |kind| {
        Err(ElfError::Kind {
            path: path.into(),
            kind,
        })
    };
    match elf::FileType(u16_at(head, 16).unwrap_or(0)) {
        elf::ET_EXEC => Ok(true),
        elf::ET_DYN => Ok(false),
        elf::ET_REL => wrong("an object file"),
        elf::ET_CORE => wrong("a core dump"),
        _ => wrong("of an unknown ELF type"),
    }
}

fn read_program_headers(
    source: &Source,
    head: &[u8],
    path: &Path,
) -> Result<Vec<ProgramHeader>, ElfError> {
    let malformed = |problem| ElfError::Malformed {
        path: path.into(),
        problem,
    };
    let offset = u64_at(head, 32).unwrap_or(0);
    let entry_size = u64::from(u16_at(head, 54).unwrap_or(0));
    let count = u64::from(u16_at(head, 56).unwrap_or(0));
    if count == 0 {
        return Err(malformed(
            "it has no program headers (a debug file without its program, perhaps)",
        ));
    }
    if entry_size != PROGRAM_HEADER_SIZE {
        return Err(malformed("its program headers have an unknown size"));
    }
    if count > MAX_PROGRAM_HEADERS {
        return Err(malformed(
            "it has more program headers than the kernel loads",
        ));
    }
    let bytes = source.read(
        path,
        "the program header table",
        offset,
        count * PROGRAM_HEADER_SIZE,
    )?;
    Ok(bytes
        .chunks_exact(PROGRAM_HEADER_SIZE as usize)
        .filter_map(ProgramHeader::parse)
        .collect())
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u16::from_le_bytes(*b))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u32::from_le_bytes(*b))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u64::from_le_bytes(*b))
}
