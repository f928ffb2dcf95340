use std::path::{Path, PathBuf};

use crate::elf::Image;

/// Where distributions put debug information that is split off, by build id.
const SYSTEM: &str = "/usr/lib/debug/.build-id";

/// Debug information in files of its own.
#[derive(Debug, Default)]
pub(crate) struct SeparateFiles {
    /// Build id and path of the files that the user gave.
    given: Vec<(String, PathBuf)>,
}

impl SeparateFiles {
    /// Reads the build ids of files; those without one cannot be matched and are left out.
    pub fn new(paths: &[PathBuf]) -> Self {
        let given = paths
            .iter()
            .filter_map(|path| Some((Image::open(path).ok()?.build_id()?.to_owned(), path.clone())))
            .collect();
        Self { given }
    }

    /// The file with a module's debug information, if it is apart and was found.
    pub fn of(&self, build_id: &str) -> Option<PathBuf> {
        self.given
            .iter()
            .find(|(given, _)| given == build_id)
            .map(|(_, path)| path.clone())
            .or_else(|| installed(Path::new(SYSTEM), build_id))
    }
}

fn installed(root: &Path, build_id: &str) -> Option<PathBuf> {
    let (folder, file) = build_id.split_at_checked(2)?;
    let path = root.join(folder).join(format!("{file}.debug"));
    path.is_file().then_some(path)
}
