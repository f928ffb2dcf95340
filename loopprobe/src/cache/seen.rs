//! Which files hold a runtime, by their state alone: every file of every process is asked for.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Cache, Key};
use crate::{
    elf::{ElfError, FileState, debug_file_places},
    runtime::{Presence, presence},
};

/// More files are not remembered: those that were asked for longest ago go.
const MAX_FILES: usize = 4096;
/// Uses are counted in days, so that nothing must be written where nothing is new.
const DAY_S: u64 = 24 * 60 * 60;

/// Files that have been looked into. What is new is written when it is dropped.
#[derive(Debug)]
pub struct Seen {
    cache: Cache,
    key: Key,
    files: HashMap<FileState, Vec<Known>>,
    is_new: bool,
    /// How many files were known, of all that were asked for.
    known: (usize, usize),
}

/// What is known of a file under one path: beside the path lies its debug file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    state: FileState,
    path: PathBuf,
    found: Option<Presence>,
    /// Where its debug file would be, or is, and what was there.
    debug_files: Vec<(PathBuf, Option<FileState>)>,
    /// The day of its last use.
    used: u64,
}

impl Seen {
    /// Reads what is remembered.
    pub fn open(cache: Cache) -> Self {
        let key = Key::of("seen", &[]);
        let known: Vec<Known> = cache.read(&key).unwrap_or_default();
        let mut files: HashMap<FileState, Vec<Known>> = HashMap::new();
        for known in known.into_iter().take(MAX_FILES) {
            files.entry(known.state).or_default().push(known);
        }
        Self {
            cache,
            key,
            files,
            is_new: false,
            known: (0, 0),
        }
    }

    /// As [`presence`], for a file that was looked into before and is what it was then without
    /// reading it.
    ///
    /// # Errors
    /// As those of [`presence`].
    pub fn presence(&mut self, file: File, path: &Path) -> Result<Option<Presence>, ElfError> {
        let again = file.try_clone();
        let (Cache::On, Ok(again)) = (self.cache, again) else {
            return presence(file, path);
        };
        let Ok(state) = FileState::of_open(&again) else {
            return presence(file, path);
        };
        self.known.1 += 1;
        if let Some(found) = self.known(state, path) {
            self.known.0 += 1;
            return Ok(found);
        }
        let places = again.try_clone().map(|file| debug_file_places(file, path));
        let debug_files = states(places.unwrap_or_default());
        let found = presence(file, path)?;
        let is_still = FileState::of_open(&again).is_ok_and(|now| now == state);
        if is_still && state.is_settled() {
            self.is_new = true;
            self.files.entry(state).or_default().push(Known {
                state,
                path: path.into(),
                found: found.clone(),
                debug_files,
                used: today(),
            });
        }
        Ok(found)
    }

    /// What is remembered of a file; forgotten if its debug file has come, gone or changed since.
    fn known(&mut self, state: FileState, path: &Path) -> Option<Option<Presence>> {
        let files = self.files.get_mut(&state)?;
        let index = files.iter().position(|known| known.path == path)?;
        let known = &mut files[index];
        let is_same = |(path, then): &(PathBuf, _)| FileState::at(path) == *then;
        if !known.debug_files.iter().all(is_same) {
            files.remove(index);
            return None;
        }
        let today = today();
        self.is_new |= known.used != today;
        known.used = today;
        Some(known.found.clone())
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if self.cache == Cache::On {
            let (known, asked) = self.known;
            log::debug!("cache: knew {known} of {asked} files");
        }
        if !self.is_new {
            return;
        }
        let mut files: Vec<_> = std::mem::take(&mut self.files)
            .into_values()
            .flatten()
            .collect();
        files.sort_by_key(|known| std::cmp::Reverse(known.used));
        files.truncate(MAX_FILES);
        self.cache.write(&self.key, &files);
    }
}

fn states(places: Vec<PathBuf>) -> Vec<(PathBuf, Option<FileState>)> {
    let state = |path: PathBuf| {
        let state = FileState::at(&path);
        (path, state)
    };
    places.into_iter().map(state).collect()
}

fn today() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() / DAY_S)
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    /// A debug package that comes later makes what was known of lines false.
    #[test]
    fn a_debug_file_that_comes_later_is_noticed() {
        let folder = env::temp_dir().join(format!("loopprobe-seen-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (own, debug_file) = (env::current_exe().unwrap(), folder.join("x.debug"));
        let state = FileState::at(&own).unwrap();
        let known = Known {
            state,
            path: own.clone(),
            found: None,
            debug_files: states(vec![debug_file.clone()]),
            used: 0,
        };
        let mut seen = Seen {
            cache: Cache::Off,
            key: Key::of("seen", &[]),
            files: HashMap::from([(state, vec![known])]),
            is_new: false,
            known: (0, 0),
        };
        assert_eq!(seen.known(state, &own), Some(None));
        assert_eq!(seen.known(state, "/another/path".as_ref()), None);
        fs::write(&debug_file, "").unwrap();
        assert_eq!(seen.known(state, &own), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
