//! Finds an image's separate debug information, and proves that it is of the same build.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use object::elf;

use super::{
    ElfError, Image, Sections, VirtAddr,
    header::{FileHeader, u32_at},
};

/// Where distributions install separate debug files.
const DEBUG_DIRECTORY: &str = "/usr/lib/debug";
/// Checksummed in pieces of this size.
const CHUNK: u64 = 1 << 20;
/// A larger file is not checksummed.
const MAX_CHECKSUMMED: u64 = 1 << 32;

/// Why a file that the user named is not an image's debug file.
#[derive(Debug, thiserror::Error)]
pub enum DebugFileError {
    /// It cannot be read.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// Its build id is another's.
    #[error("{} has build id {found}, {} has {expected}: it belongs to another build", file.display(), image.display())]
    BuildId {
        /// The debug file.
        file: PathBuf,
        /// Its build id.
        found: String,
        /// The image.
        image: PathBuf,
        /// The image's build id.
        expected: String,
    },
    /// Without build ids, their code differs.
    #[error("{} was not made from {}: their code differs", file.display(), image.display())]
    Code {
        /// The debug file.
        file: PathBuf,
        /// The image.
        image: PathBuf,
    },
}

/// Opens `file` if it is the debug file, or an unstripped copy, of `image`.
///
/// Build ids decide where both have one; otherwise the segments must be the same, and the code
/// wherever the file has any.
///
/// # Errors
/// When it cannot be read or belongs to another build.
pub fn open_debug_file(image: &Image, file: &Path) -> Result<Sections, DebugFileError> {
    let sections = Sections::open(file)?;
    match (image.build_id(), sections.build_id()) {
        (Some(expected), Some(found)) if expected == found => Ok(sections),
        (Some(expected), Some(found)) => Err(DebugFileError::BuildId {
            file: file.into(),
            found,
            image: image.path().into(),
            expected: expected.to_owned(),
        }),
        _ if same_segments(image, &sections)? && same_code(image, &sections)? => Ok(sections),
        _ => Err(DebugFileError::Code {
            file: file.into(),
            image: image.path().into(),
        }),
    }
}

/// Looks for the debug file of `image` where distributions put it: by build id, then by
/// `.gnu_debuglink` with its checksum.
pub fn find_debug_file(image: &Image, sections: &Sections) -> Option<Sections> {
    find_debug_file_in(Path::new(DEBUG_DIRECTORY), image, sections)
}

fn find_debug_file_in(directory: &Path, image: &Image, sections: &Sections) -> Option<Sections> {
    let by_build_id = image.build_id().and_then(|id| {
        let path = place_of_build_id(directory, id)?;
        open_debug_file(image, &path).ok()
    });
    by_build_id.or_else(|| by_link(directory, image, sections))
}

fn by_link(directory: &Path, image: &Image, sections: &Sections) -> Option<Sections> {
    let (name, checksum) = debug_link(sections)?;
    let places = places_of_link(directory, image.path(), &name);
    places
        .iter()
        .filter(|place| *place != image.path())
        .find_map(|place| {
            let file = Sections::open(place).ok()?;
            let same_id = match (image.build_id(), file.build_id()) {
                (Some(expected), Some(found)) => expected == found,
                _ => true,
            };
            (same_id && crc32(&file)? == checksum).then_some(file)
        })
}

fn place_of_build_id(directory: &Path, id: &str) -> Option<PathBuf> {
    let (folder, file) = id
        .split_at_checked(2)
        .filter(|(_, file)| !file.is_empty())?;
    Some(
        directory
            .join(".build-id")
            .join(folder)
            .join(format!("{file}.debug")),
    )
}

fn places_of_link(directory: &Path, image: &Path, name: &str) -> Vec<PathBuf> {
    let Some(beside) = image.parent() else {
        return Vec::new();
    };
    let below = directory.join(beside.strip_prefix("/").unwrap_or(beside));
    vec![
        beside.join(name),
        beside.join(".debug").join(name),
        below.join(name),
    ]
}

/// Where [`find_debug_file`] looks for the debug file of a file, whether or not there is one; none
/// for a file that lacks nothing.
pub fn debug_file_places(file: File, path: &Path) -> Vec<PathBuf> {
    let Ok(sections) = Sections::of_file(file, path) else {
        return Vec::new();
    };
    if sections.has(".symtab") && sections.has(".debug_info") {
        return Vec::new();
    }
    let directory = Path::new(DEBUG_DIRECTORY);
    let id = sections.build_id();
    let mut places = Vec::from_iter(id.and_then(|id| place_of_build_id(directory, &id)));
    if let Some((name, _)) = debug_link(&sections) {
        places.extend(places_of_link(directory, path, &name));
    }
    places
}

/// The file name and checksum that `.gnu_debuglink` gives. A name with a directory in it is
/// refused.
fn debug_link(sections: &Sections) -> Option<(String, u32)> {
    let data = sections.data(".gnu_debuglink").ok()??;
    let end = memchr::memchr(0, &data)?;
    let name = std::str::from_utf8(&data[..end]).ok()?;
    let is_plain = !name.is_empty() && !name.contains('/') && name != "..";
    is_plain.then_some((
        name.to_owned(),
        u32_at(&data, (end + 1).next_multiple_of(4))?,
    ))
}

fn crc32(file: &Sections) -> Option<u32> {
    let len = file.source().len();
    if len > MAX_CHECKSUMMED {
        return None;
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut at = 0;
    while at < len {
        let size = CHUNK.min(len - at);
        hasher.update(&file.source().read(file.path(), "the file", at, size).ok()?);
        at += size;
    }
    Some(hasher.finalize())
}

fn same_segments(image: &Image, file: &Sections) -> Result<bool, ElfError> {
    let header = FileHeader::read(file.source(), file.path())?;
    let theirs = header
        .program_headers
        .iter()
        .filter(|h| h.is_load())
        .map(|h| (h.address, h.memory_size, h.flags));
    let ours = image
        .headers(elf::PT_LOAD)
        .map(|h| (h.address, h.memory_size, h.flags));
    Ok(ours.eq(theirs))
}

/// Whether `.text` has the same place and, where the file holds it, the same bytes.
fn same_code(image: &Image, file: &Sections) -> Result<bool, ElfError> {
    let Some(text) = file.section(".text") else {
        return Ok(false);
    };
    let start = VirtAddr(text.address);
    if text.kind == elf::SHT_NOBITS.0 {
        return Ok(image.is_code(start));
    }
    let theirs = file.section_data(text)?;
    Ok(*image.copied(start, theirs.len()) == *theirs)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn own() -> PathBuf {
        std::env::current_exe().unwrap()
    }

    #[test]
    fn an_unstripped_copy_belongs_and_another_build_does_not() {
        let image = Image::open(&own()).unwrap();
        assert!(open_debug_file(&image, &own()).is_ok());
        let other = Path::new("/bin/ls");
        assert!(open_debug_file(&image, other).is_err());
    }

    #[test]
    fn a_changed_byte_of_code_is_noticed_without_build_ids() {
        let image = Image::open(&own()).unwrap();
        let mut bytes = fs::read(own()).unwrap();
        let text = image.sections().unwrap().section(".text").unwrap().clone();
        bytes[text.offset as usize + 100] ^= 1;
        let changed = Image::parse(&own(), bytes).unwrap();
        assert!(!same_code(&changed, &image.sections().unwrap()).unwrap());
    }

    #[test]
    fn a_checksum_is_that_of_the_whole_file() {
        let sections = Sections::open(&own()).unwrap();
        assert_eq!(
            crc32(&sections),
            Some(crc32fast::hash(&fs::read(own()).unwrap()))
        );
    }
}
