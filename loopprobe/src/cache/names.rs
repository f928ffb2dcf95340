//! Names of tasks, and where threads keep what they poll: by the file's own bytes.

use std::sync::Arc;

use super::{Cache, Key};
use crate::{
    elf::{FileState, Image, Sections},
    runtime::{
        DiscoverError, FileNames, NotWatchable, RuntimeImage, Runtimes, WatchWords, detect,
        installed_debug_file, sketch,
    },
};

type Found = Result<Vec<Arc<dyn RuntimeImage>>, DiscoverError>;

impl Cache {
    /// As [`detect`], with names that are remembered where they are.
    ///
    /// # Errors
    /// As those of [`detect`].
    pub fn detect(self, runtimes: Runtimes, image: &Image, debug_file: Option<&Sections>) -> Found {
        if self == Self::Off {
            return detect(runtimes, image, debug_file);
        }
        let installed = match debug_file {
            Some(_) => None,
            None => installed_debug_file(image),
        };
        let debug_file = debug_file.or(installed.as_ref());
        let sketches = sketch(runtimes, image, debug_file)?;
        self.complete(runtimes, image, debug_file, sketches)
    }

    /// The same for a file of which sketches were made, with this debug file.
    ///
    /// # Errors
    /// As those of [`detect`].
    pub fn complete(
        self,
        runtimes: Runtimes,
        image: &Image,
        debug_file: Option<&Sections>,
        sketches: Vec<Arc<dyn RuntimeImage>>,
    ) -> Found {
        if sketches.iter().all(|sketch| sketch.facts().is_named) {
            return Ok(sketches);
        }
        let of = (self == Self::On).then(|| Of::file(image, debug_file));
        let Some(of) = of.flatten() else {
            return detect(runtimes, image, debug_file);
        };
        let remembered = sketches.iter().map(|sketch| self.named(&of, sketch));
        if let Some(found) = remembered.collect() {
            log::debug!("cache: knows the names of {}", image.path().display());
            return Ok(found);
        }
        let found = detect(runtimes, image, debug_file)?;
        if of.is_still(image, debug_file) {
            for (sketch, found) in sketches.iter().zip(&found) {
                self.remember(&of, sketch.as_ref(), found.as_ref());
            }
        }
        Ok(found)
    }

    fn named(self, of: &Of, sketch: &Arc<dyn RuntimeImage>) -> Option<Arc<dyn RuntimeImage>> {
        if sketch.facts().is_named {
            return Some(Arc::clone(sketch));
        }
        let names: FileNames = self.read(&of.key("names", sketch.as_ref()))?;
        sketch.with_names(&names)
    }

    /// Only what gives the very same again is remembered.
    fn remember(self, of: &Of, sketch: &dyn RuntimeImage, found: &dyn RuntimeImage) {
        let names = FileNames::of(found.facts());
        let is_same = sketch
            .with_names(&names)
            .is_some_and(|again| again.facts() == found.facts());
        if !sketch.facts().is_named && is_same {
            self.write(&of.key("names", sketch), &names);
        }
    }

    /// As [`RuntimeImage::watch_words`], remembered.
    ///
    /// # Errors
    /// As those of that.
    pub fn watch_words(
        self,
        image: &Image,
        found: &dyn RuntimeImage,
    ) -> Result<WatchWords, NotWatchable> {
        let loaded = (self == Self::On).then(|| Of::loaded(image));
        let Some(of) = loaded.flatten() else {
            return found.watch_words(image);
        };
        let key = of.key("words", found);
        if let Some(words) = self.read(&key) {
            return words;
        }
        let words = found.watch_words(image);
        if image.is_as_opened() {
            self.write(&key, &words);
        }
        words
    }
}

/// What a finding depends on.
struct Of {
    parts: Vec<u8>,
    /// The files of which more was read than what is loaded.
    states: [Option<FileState>; 2],
}

impl Of {
    /// All that is loaded; the files that symbols and debug information came from stand for those.
    /// `None` if that does not tell them from later ones.
    fn file(image: &Image, debug_file: Option<&Sections>) -> Option<Self> {
        let mut of = Self::loaded(image)?;
        of.states = states(image, debug_file)?;
        for state in &of.states {
            let words = state.as_ref().map_or([0; 7], FileState::words);
            of.parts.push(state.is_some().into());
            of.parts
                .extend(words.into_iter().flat_map(u64::to_le_bytes));
        }
        let path = debug_file.map(|file| file.path().as_os_str().as_encoded_bytes());
        of.parts.extend(path.unwrap_or_default());
        Some(of)
    }

    /// All that is loaded, and nothing else.
    fn loaded(image: &Image) -> Option<Self> {
        Some(Self {
            parts: image.digest()?.to_vec(),
            states: [None; 2],
        })
    }

    fn key(&self, kind: &str, found: &dyn RuntimeImage) -> Key {
        Key::of(kind, &[found.runtime().name().as_bytes(), &self.parts])
    }

    /// Whether the files are as they were, and will show it if they are changed.
    fn is_still(&self, image: &Image, debug_file: Option<&Sections>) -> bool {
        let settled = self.states.iter().flatten().all(FileState::is_settled);
        settled && image.is_as_opened() && states(image, debug_file) == Some(self.states)
    }
}

/// The states of the files of which symbols or debug information are read, the image's own first.
fn states(image: &Image, debug_file: Option<&Sections>) -> Option<[Option<FileState>; 2]> {
    let is_more = |sections: &Sections| sections.has(".symtab") || sections.has(".debug_info");
    let own = match image.sections().is_ok_and(|sections| is_more(&sections)) {
        true => Some(image.state()?),
        false => None,
    };
    let separate = match debug_file {
        Some(file) => Some(file.state()?),
        None => None,
    };
    Some([own, separate])
}
