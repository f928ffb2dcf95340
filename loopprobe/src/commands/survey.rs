use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::{
    elf::Image,
    process::{ImageFile, Mapping, Maps, ProcessError},
    runtime::tokio::{TokioImage, discover},
};

/// Larger files are not looked into: with their debug information they could take minutes.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Looks for Tokio in the files that processes have mapped, each file once.
#[derive(Default)]
pub struct Survey {
    known: HashMap<FileKey, Option<TokioImage>>,
}

/// A file in one state: device, inode, size and time of its last change.
type FileKey = (u64, u64, u64, i64, i64);

/// What a process has of Tokio.
#[derive(Debug, Default)]
pub struct Found {
    /// The files that hold it.
    pub images: Vec<TokioImage>,
    /// How many files were looked at.
    pub files: usize,
    /// The files that could not be read, each with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl Survey {
    /// Looks at all files of a process.
    ///
    /// # Errors
    ///
    /// [`ProcessError`] if its memory map cannot be read. Files that cannot be are listed instead.
    pub fn process(&mut self, pid: u32) -> Result<Found, ProcessError> {
        let mut found = Found::default();
        for mapping in Maps::read(pid)?.images() {
            found.files += 1;
            match self.file(pid, mapping) {
                Ok(image) => found.images.extend(image),
                Err(reason) => found.unreadable.push((mapping.path.clone(), reason)),
            }
        }
        if !found.unreadable.is_empty() {
            // Files of a process that ends meanwhile are not worth a word.
            Maps::read(pid)?;
        }
        Ok(found)
    }

    fn file(&mut self, pid: u32, mapping: &Mapping) -> Result<Option<TokioImage>, String> {
        let file = ImageFile::open(pid, mapping).map_err(|error| error.to_string())?;
        let key = key(&file);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let found = look_into(file, &mapping.path)?;
        self.known.insert(key, found.clone());
        Ok(found)
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

fn look_into(file: ImageFile, path: &Path) -> Result<Option<TokioImage>, String> {
    if file.metadata.len() > MAX_FILE_BYTES {
        return Err(format!("it is larger than {} GiB", MAX_FILE_BYTES >> 30));
    }
    let image = Image::from_file(file.file, path).map_err(|error| error.to_string())?;
    Ok(discover(&image).ok())
}
