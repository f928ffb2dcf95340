//! Files as blazesym may see them.
//!
//! blazesym maps files into memory. The owner of a mapped file can cut it short, and the next
//! access kills this process with SIGBUS; or change what has been checked already. It also follows
//! links to further debug files, by names that the file gives. So it gets the files that only root
//! can write to as they are, and a private copy of any other, in which those links have lost their
//! names, and which lacks what it does not need, if it is [fit](super::vetted). What the links lead
//! to is found, and checked, by [`crate::elf`].

use std::{
    fs::File,
    io,
    ops::Range,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::PathBuf,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};

use super::vetted::is_fit;
use crate::elf::Sections;

/// The largest file that is copied into memory. A larger one gives no names.
const MAX_COPIED: u64 = 1 << 30;
/// Write permission of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// How much is copied at a time, in bytes.
const CHUNK: u64 = 1 << 20;
/// Holes are made of pages.
const PAGE: u64 = 4096;
/// Sections that name other files.
const LINKS: [&[u8]; 3] = [b".gnu_debuglink\0", b".gnu_debugaltlink\0", b".debug_sup\0"];
/// The section names are looked for links up to this many bytes.
const MAX_NAMES: u64 = 1 << 20;

/// A file that nobody but root changes while it is held.
#[derive(Debug)]
pub(crate) struct Steady(File);

impl Steady {
    /// The file itself, or a private copy.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is too large to be copied, or is made to harm blazesym.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.uid() == 0 && metadata.mode() & WRITABLE_BY_OTHERS == 0 {
            return file.try_clone().map(Self);
        }
        let copy = Self(copy(file, metadata.len())?);
        if !is_fit(&copy.0, &copy.path()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(copy)
    }

    /// A path that this process can open it by.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

fn copy(file: &File, len: u64) -> io::Result<File> {
    if len > MAX_COPIED {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let copy = File::from(memfd_create(
        c"loopprobe-symbols",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )?);
    let mut at = 0;
    for left_out in left_out(file, len) {
        at = copy_range(file, &copy, at..left_out.start)?;
        if at < left_out.start {
            break;
        }
        at = left_out.end;
    }
    let end = copy_range(file, &copy, at..len)?;
    copy.set_len(end)?;
    unname_links(&copy, end)?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(copy)
}

/// Copies a range, as it is by now: the file may have been cut short. Returns where it ended.
fn copy_range(file: &File, copy: &File, range: Range<u64>) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK.min(range.end.saturating_sub(range.start)) as usize];
    let mut at = range.start;
    while at < range.end {
        let wanted = (range.end - at).min(CHUNK) as usize;
        let read = file.read_at(&mut buffer[..wanted], at)?;
        if read == 0 {
            break;
        }
        copy.write_all_at(&buffer[..read], at)?;
        at += read as u64;
    }
    Ok(at)
}

/// Whole pages of code and data of a file, in ascending order: most of a program, of which nothing
/// is needed to name its addresses. They stay holes in the copy, which take no memory.
fn left_out(file: &File, len: u64) -> Vec<Range<u64>> {
    let sections = file.try_clone().and_then(|file| {
        Sections::of_file(file, "".as_ref()).map_err(|_| io::ErrorKind::InvalidData.into())
    });
    let mut pages: Vec<Range<u64>> = Vec::new();
    for range in sections.iter().flat_map(Sections::code_and_data) {
        let before = pages.last().map_or(0, |pages| pages.end);
        let start = range.start.max(before).next_multiple_of(PAGE);
        let end = range.end.min(len) & !(PAGE - 1);
        if start < end {
            pages.push(start..end);
        }
    }
    pages
}

/// Takes the names off the sections that lead to other files.
fn unname_links(copy: &File, len: u64) -> io::Result<()> {
    let Some((start, size)) = names(copy) else {
        return Ok(());
    };
    let size = size.min(len.saturating_sub(start)).min(MAX_NAMES);
    let mut names = vec![0; size as usize];
    copy.read_exact_at(&mut names, start)?;
    for link in LINKS {
        for at in memchr::memmem::find_iter(&names, link) {
            copy.write_all_at(b"-", start + at as u64)?;
        }
    }
    Ok(())
}

/// Offset and size of the section names (`Elf64_Ehdr` and `Elf64_Shdr` of the gABI).
fn names(file: &File) -> Option<(u64, u64)> {
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    let table = u64::from_le_bytes(header[40..48].try_into().ok()?);
    let index = u16::from_le_bytes(header[62..64].try_into().ok()?);
    let mut section = [0; 64];
    let at = table.checked_add(u64::from(index) * 64)?;
    file.read_exact_at(&mut section, at).ok()?;
    let word = |at: usize| Some(u64::from_le_bytes(section[at..at + 8].try_into().ok()?));
    Some((word(24)?, word(32)?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn with_link() -> Vec<u8> {
        let mut bytes = vec![0; 64 + 64];
        // A 64-bit little-endian library with one section.
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16] = 3;
        bytes[58] = 64;
        bytes[60] = 1;
        bytes[40..48].copy_from_slice(&64_u64.to_le_bytes());
        bytes[64 + 24..64 + 32].copy_from_slice(&128_u64.to_le_bytes());
        bytes.extend_from_slice(b"\0.text\0.gnu_debuglink\0");
        let size = (bytes.len() - 128) as u64;
        bytes[64 + 32..64 + 40].copy_from_slice(&size.to_le_bytes());
        bytes
    }

    fn file_of_others(bytes: &[u8]) -> File {
        let file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn a_copy_outlives_the_cutting_of_its_original_and_cannot_be_changed() {
        let bytes = fs::read("/proc/self/exe").unwrap();
        let file = file_of_others(&bytes);
        let steady = Steady::of(&file).unwrap();
        file.set_len(0).unwrap();
        let copied = fs::read(steady.path()).unwrap();
        assert_eq!(copied.len(), bytes.len());
        assert!(steady.0.set_len(0).is_err());
        assert!(steady.0.write_all_at(b"x", 0).is_err());
    }

    #[test]
    fn a_copy_has_the_symbols_and_not_the_code() {
        use std::path::Path;

        use crate::elf::SymbolTable;

        let bytes = fs::read("/proc/self/exe").unwrap();
        let steady = Steady::of(&file_of_others(&bytes)).unwrap();
        let table = |path: &Path| {
            let sections = Sections::open(path).unwrap();
            let loaded = sections.code_and_data();
            let symbols = SymbolTable::read(&sections).unwrap();
            let names = symbols.iter().map(|s| (s.address, s.name.to_owned()));
            (names.collect::<Vec<_>>(), loaded)
        };
        let (symbols, loaded) = table(Path::new("/proc/self/exe"));
        assert!(symbols.len() > 1000 && table(&steady.path()).0 == symbols);
        let left_out: u64 = loaded.iter().map(|range| range.end - range.start).sum();
        let most = (bytes.len() as u64 - left_out) + PAGE * 4 * loaded.len() as u64;
        let taken = steady.0.metadata().unwrap().blocks() * 512;
        assert!(
            taken <= most && left_out > 1 << 20,
            "{taken}, {most}, {left_out}"
        );
    }

    #[test]
    fn links_to_other_files_have_no_names_in_a_copy() {
        let steady = Steady::of(&file_of_others(&with_link())).unwrap();
        let copied = fs::read(steady.path()).unwrap();
        assert!(copied.ends_with(b"\0.text\0-gnu_debuglink\0"));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        for len in 0..with_link().len() {
            assert!(Steady::of(&file_of_others(&with_link()[..len])).is_err());
        }
    }
}
