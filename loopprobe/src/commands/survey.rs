//! Looks for Tokio in the files that processes have mapped, each file only once.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
};

use crate::{
    elf::ElfError,
    process::{ImageFile, Mapping, Maps, ProcessError},
};

/// Larger files are not looked into: with their debug information they could take minutes.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Looks for Tokio in the files that processes have mapped, each file once.
pub(super) struct Survey<T, L = fn(File, &Path) -> Result<Option<T>, ElfError>> {
    /// What is told of a file, if it has Tokio.
    look: L,
    known: HashMap<FileKey, Option<T>>,
}

/// A file in one state: device, inode, size and time of its last change.
type FileKey = (u64, u64, u64, i64, i64);

/// What a process has of Tokio.
#[derive(Debug)]
pub(super) struct Found<T> {
    /// The files that hold it, each with its path as the process has it.
    pub images: Vec<(PathBuf, T)>,
    /// How many files were looked at.
    pub files: usize,
    /// The files that could not be read, each with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl<T: Clone, L: FnMut(File, &Path) -> Result<Option<T>, ElfError>> Survey<T, L> {
    /// A survey that tells of each file what `look` does.
    pub(super) fn new(look: L) -> Self {
        Self {
            look,
            known: HashMap::new(),
        }
    }

    /// Looks at all files of a process.
    ///
    /// # Errors
    ///
    /// [`ProcessError`] if its memory map cannot be read. Files that cannot be are listed instead.
    pub(super) fn process(&mut self, pid: u32) -> Result<Found<T>, ProcessError> {
        let mut found = Found {
            images: Vec::new(),
            files: 0,
            unreadable: Vec::new(),
        };
        for mapping in Maps::read(pid)?.images() {
            found.files += 1;
            match self.file(pid, mapping) {
                Ok(image) => {
                    let image = image.map(|image| (mapping.path.clone(), image));
                    found.images.extend(image);
                }
                Err(reason) => found.unreadable.push((mapping.path.clone(), reason)),
            }
        }
        if !found.unreadable.is_empty() {
            // Files of a process that ends meanwhile are not worth a word.
            Maps::read(pid)?;
        }
        Ok(found)
    }

    fn file(&mut self, pid: u32, mapping: &Mapping) -> Result<Option<T>, String> {
        let file = ImageFile::open(pid, mapping).map_err(|error| error.to_string())?;
        let key = key(&file);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let found = self.look_into(file, &mapping.path)?;
        self.known.insert(key, found.clone());
        Ok(found)
    }

    fn look_into(&mut self, file: ImageFile, path: &Path) -> Result<Option<T>, String> {
        if file.metadata.len() > MAX_FILE_BYTES {
            return Err(format!("it is larger than {} GiB", MAX_FILE_BYTES >> 30));
        }
        (self.look)(file.file, path).map_err(|error| error.to_string())
    }
}

fn key(file: &ImageFile) -> FileKey {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = &file.metadata;
    (
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    )
}
