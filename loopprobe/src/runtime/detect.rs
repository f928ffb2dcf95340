//! Which runtimes a file holds.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{DebugInfoLevel, ImageFacts, RUNTIMES, Runtime, RuntimeImage, Runtimes};
use crate::elf::{ElfError, Image, Sections, find_debug_file};

/// Why no runtime can be observed in an image.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// No trace of any.
    #[error(
        "{path} does not contain {names} runtime; if a shared object brings it, name that file, or use --pid to look at \
         all files of a process"
    )]
    Nothing {
        /// The file.
        path: PathBuf,
        /// Whose was looked for: `Tokio's`.
        names: String,
    },
    /// One is there, but its tasks cannot be found.
    #[error("{path} contains {what}, but {why}")]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// The runtime, with its versions.
        what: String,
        /// What is missing, and what to do.
        why: &'static str,
    },
}

/// Finds the runtimes that an image holds, at least one; `debug_file` is the image's separate debug
/// file, which fills in what the image itself lacks. Without one, it is looked for where
/// distributions install it ([`find_debug_file`]).
///
/// # Errors
/// When there is none.
pub fn detect(
    runtimes: Runtimes,
    image: &Image,
    debug_file: Option<&Sections>,
) -> Result<Vec<Arc<dyn RuntimeImage>>, DiscoverError> {
    let installed = match debug_file {
        Some(_) => None,
        None => installed_debug_file(image),
    };
    let debug_file = debug_file.or(installed.as_ref());
    look(runtimes, image, |runtime| runtime.detect(image, debug_file))
}

/// Finds the runtimes that an image holds, at least one, without what takes long
/// ([`Runtime::sketch`]). No debug file is looked for.
///
/// # Errors
/// When there is none.
pub fn sketch(
    runtimes: Runtimes,
    image: &Image,
    debug_file: Option<&Sections>,
) -> Result<Vec<Arc<dyn RuntimeImage>>, DiscoverError> {
    look(runtimes, image, |runtime| runtime.sketch(image, debug_file))
}

/// What one runtime found.
type Found = Result<Option<Arc<dyn RuntimeImage>>, DiscoverError>;

fn look(
    runtimes: Runtimes,
    image: &Image,
    look: impl Fn(&dyn Runtime) -> Found,
) -> Result<Vec<Arc<dyn RuntimeImage>>, DiscoverError> {
    let (mut found, mut failed) = (Vec::new(), None);
    for runtime in runtimes {
        match look(*runtime) {
            Ok(image) => found.extend(image),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        _ if !found.is_empty() => Ok(found),
        Some(error) => Err(error),
        None => Err(nothing(runtimes, image)),
    }
}

fn nothing(runtimes: Runtimes, image: &Image) -> DiscoverError {
    let names = runtimes
        .iter()
        .map(|runtime| format!("{}'s", runtime.name()));
    DiscoverError::Nothing {
        path: image.path().into(),
        names: names.collect::<Vec<_>>().join(" or "),
    }
}

/// What can be told of an image's runtime at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Its versions, or the range that the code allows.
    pub versions: Vec<String>,
    /// Whether the image itself has no symbol table.
    pub stripped: bool,
    /// Whether there is debug information, in the image or where distributions install separate
    /// files: it tells lines.
    pub lines: bool,
}

impl Presence {
    /// What is left of all that is known.
    pub(super) fn of(facts: &ImageFacts) -> Self {
        Self {
            versions: facts.versions.clone(),
            stripped: facts.stripped,
            lines: facts.debug_info != DebugInfoLevel::None,
        }
    }
}

/// Looks into a file for a runtime, without finding out more than that; `None` where [`detect`]
/// would find none.
///
/// # Errors
/// When it is no ELF image that can be read.
pub fn presence(file: File, path: &Path) -> Result<Option<Presence>, ElfError> {
    for runtime in RUNTIMES {
        let again = file.try_clone().map_err(|source| ElfError::Read {
            path: path.into(),
            source,
        })?;
        if let Some(found) = runtime.presence(again, path)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The separate debug file that distributions install, if the image lacks anything.
pub fn installed_debug_file(image: &Image) -> Option<Sections> {
    let lacks = |sections: &Sections| !sections.has(".symtab") || !sections.has(".debug_info");
    let own = image.sections().ok().filter(lacks)?;
    find_debug_file(image, &own)
}
