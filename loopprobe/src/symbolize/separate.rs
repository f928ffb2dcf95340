//! Finds the file with a module's debug information, by build id or debug link.

use std::path::PathBuf;

use crate::elf::{Image, find_debug_file};

/// Debug information in files of its own.
#[derive(Debug, Default)]
pub(crate) struct SeparateFiles {
    /// Build id and path of the files that the user gave.
    given: Vec<(String, PathBuf)>,
}

impl SeparateFiles {
    /// Reads the build ids of files; those without one cannot be matched and are left out.
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        let given = paths
            .iter()
            .filter_map(|path| Some((Image::open(path).ok()?.build_id()?.to_owned(), path.clone())))
            .collect();
        Self { given }
    }

    /// The file with an image's debug information, if it is apart and was found: given by the user,
    /// or where distributions put it, or where the image's own link says, with the right checksum.
    pub(super) fn of(&self, image: &Image) -> Option<PathBuf> {
        let given = |id| self.given.iter().find(|(given, _)| given == id);
        image
            .build_id()
            .and_then(given)
            .map(|(_, path)| path.clone())
            .or_else(|| {
                let sections = image.sections().ok()?;
                Some(find_debug_file(image, &sections)?.path().to_owned())
            })
    }
}
