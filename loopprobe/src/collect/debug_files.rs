//! Debug files that the user named, each of which must belong to some file.

use std::path::{Path, PathBuf};

use crate::elf::{DebugFileError, Image, Sections, open_debug_file};

/// The debug files, and which of them have been of use.
#[derive(Debug, Default)]
pub(crate) struct GivenDebugFiles(Vec<Given>);

#[derive(Debug)]
struct Given {
    path: PathBuf,
    used: bool,
    /// Why it did not belong to the file that was looked at first.
    problem: Option<DebugFileError>,
}

impl GivenDebugFiles {
    /// None has been used.
    pub(crate) fn new(paths: &[PathBuf]) -> Self {
        let given = |path: &PathBuf| Given {
            path: path.clone(),
            used: false,
            problem: None,
        };
        Self(paths.iter().map(given).collect())
    }

    /// The one that belongs to an image.
    pub(crate) fn of(&mut self, image: &Image) -> Option<Sections> {
        self.0.iter_mut().find_map(|given| given.open(image))
    }

    /// The first that belonged to no image, and why not to the first: most debug files are the
    /// program's.
    pub(crate) fn useless(&mut self) -> Option<(PathBuf, DebugFileError)> {
        let mut unused = self.0.iter_mut().filter(|given| !given.used);
        unused.find_map(|given| Some((given.path.clone(), given.problem.take()?)))
    }
}

impl Given {
    fn open(&mut self, image: &Image) -> Option<Sections> {
        match open_debug_file(image, Path::new(&self.path)) {
            Ok(sections) => {
                self.used = true;
                Some(sections)
            }
            Err(error) => {
                self.problem.get_or_insert(error);
                None
            }
        }
    }
}
