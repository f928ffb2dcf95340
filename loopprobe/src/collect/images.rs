//! Which files of the target are probed.

use std::{
    collections::HashSet,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use object::{Object as _, ObjectSymbol as _};

use super::{
    ObserveError, debug_files::GivenDebugFiles, naming::Unnamed, source::watch::Watchable,
};
use crate::{
    attach::{Plan, PlannedImage, epoll, epoll_offset},
    cache::Cache,
    elf::{DebugFileError, Image, Sections, VirtAddr},
    model::TaskType,
    process::{ImageFile, MapWatch, Maps},
    runtime::{MappedImage, Runtime, RuntimeImage, Runtimes, installed_debug_file, sketch},
};

/// What tells mapped files apart.
type FileId = ((u32, u32), u64);

/// The files that have been looked at, and what they gave.
#[derive(Debug)]
pub(super) struct Images {
    /// What is looked for.
    runtimes: Runtimes,
    /// Whether files are remembered.
    pub cache: Cache,
    seen: HashSet<FileId>,
    /// When to look for new ones.
    maps: MapWatch,
    debug_files: GivenDebugFiles,
    /// Inodes of files that were planned by path, before the process mapped them.
    by_path: Vec<PlannedByPath>,
    /// Whether names are wanted with the plan. Entry-only timing asks for stacks all the time, and
    /// they must be looked at.
    pub name_at_once: bool,
    /// Files that were planned without names.
    pub unnamed: Vec<Unnamed>,
    /// What could not be read, a line each.
    pub unreadable: Vec<String>,
    /// The runtimes that were found.
    pub found: Vec<FoundRuntime>,
    /// Whether `epoll_wait` is probed.
    pub epoll: bool,
    /// The files with a runtime, where the process has them mapped.
    pub mapped: Vec<MappedImage>,
    /// Whether threads are watched instead of probed.
    pub watch: bool,
    /// Files with a runtime in them, if so.
    pub watchable: Vec<Watchable>,
    /// Whether no further file is looked at.
    pub closed: bool,
    /// Whether root futures that cannot be probed are to be watched.
    pub roots: bool,
    /// Whether polls are to be watched while the probes are away.
    pub stand_in: bool,
}

/// Files that have been looked at before, and the task types of theirs that are wanted.
#[derive(Debug)]
pub(super) struct Known {
    /// Each file with what it holds.
    pub files: Vec<(ImageFile, Arc<dyn RuntimeImage>)>,
    /// Those types.
    pub wanted: HashSet<TaskType>,
}

impl Known {
    /// Those with a runtime in them.
    pub(super) fn of(planned: &[PlannedImage], wanted: HashSet<TaskType>) -> Self {
        let files = planned.iter().filter_map(|planned| {
            Some((copy(&planned.file)?, Arc::clone(planned.runtime.as_ref()?)))
        });
        Self {
            files: files.collect(),
            wanted,
        }
    }
}

/// A runtime of the process.
#[derive(Debug)]
pub(super) struct FoundRuntime {
    /// Which one.
    pub runtime: &'static dyn Runtime,
    /// Its versions, where known.
    pub versions: Vec<String>,
    /// Whether a file names the functions in which a thread parks that drives a root future.
    pub has_parks: bool,
}

#[derive(Debug)]
struct PlannedByPath {
    inode: u64,
    image: Arc<dyn RuntimeImage>,
}

impl Images {
    /// No file has been looked at; `debug_files` were given by the user.
    pub(super) fn new(runtimes: Runtimes, debug_files: &[PathBuf]) -> Self {
        Self {
            runtimes,
            cache: Cache::Off,
            seen: HashSet::new(),
            maps: MapWatch::default(),
            debug_files: GivenDebugFiles::new(debug_files),
            by_path: Vec::new(),
            name_at_once: false,
            unnamed: Vec::new(),
            unreadable: Vec::new(),
            found: Vec::new(),
            epoll: false,
            mapped: Vec::new(),
            watch: false,
            watchable: Vec::new(),
            closed: false,
            roots: false,
            stand_in: false,
        }
    }

    /// A debug file that belongs to none of the files that have been looked at, and why.
    pub(super) fn useless_debug_file(&mut self) -> Option<(PathBuf, DebugFileError)> {
        self.debug_files.useless()
    }

    /// How many files have been looked at.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Plans probes for the files that the process has mapped and that have not been looked at yet.
    ///
    /// # Errors
    ///
    /// [`ObserveError::Process`] if the process is gone. Files that cannot be read are listed
    /// instead.
    pub(super) fn plan_mapped(
        &mut self,
        pid: u32,
        plan: &mut Plan,
    ) -> Result<Vec<PlannedImage>, ObserveError> {
        let mut planned = Vec::new();
        if self.closed || !self.maps.is_due(pid) {
            return Ok(planned);
        }
        let maps = Maps::read(pid)?;
        for mapping in maps.images() {
            if !self.seen.insert(mapping.file_id()) {
                continue;
            }
            let file = match ImageFile::open(pid, mapping) {
                Ok(file) => file,
                Err(error) => {
                    self.unreadable.push(error.to_string());
                    continue;
                }
            };
            let Some(image) = self.read(&file.file, &mapping.path) else {
                continue;
            };
            let bias = maps.load_bias(mapping, &image);
            let is_mapped = |known: &&PlannedByPath| known.inode == mapping.inode;
            let mut known = self.by_path.iter().filter(is_mapped).peekable();
            if known.peek().is_some() {
                for (known, bias) in known.zip(std::iter::repeat(bias)) {
                    let Some(bias) = bias else { continue };
                    plan.add_text(known.image.as_ref(), bias);
                    let image = Arc::clone(&known.image);
                    self.mapped.push(MappedImage { image, bias });
                }
                continue;
            }
            planned.extend(self.plan_file(file, image, bias, plan));
        }
        Ok(planned)
    }

    /// Plans probes for a program that is to be executed.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(super) fn plan_program(
        &mut self,
        path: &Path,
        plan: &mut Plan,
    ) -> Result<Vec<PlannedImage>, ObserveError> {
        let failed = |source| ObserveError::Program {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        let Some(image) = self.read(&file, path) else {
            return Ok(Vec::new());
        };
        let planned = self.plan_file(ImageFile { file, metadata }, image, None, plan);
        for image in planned.iter().filter_map(|p| p.runtime.clone()) {
            self.by_path.push(PlannedByPath { inode, image });
        }
        Ok(planned)
    }

    fn read(&mut self, file: &File, path: &Path) -> Option<Arc<Image>> {
        let image = file
            .try_clone()
            .map_err(|e| format!("{}: {e}", path.display()))
            .and_then(|file| Image::shared(file, path).map_err(|e| e.to_string()));
        image.map_err(|problem| self.unreadable.push(problem)).ok()
    }

    /// The debug file that the user gave for this image, or the one that is installed.
    fn debug_file(&mut self, image: &Image) -> Option<Sections> {
        let given = self.debug_files.of(image);
        given.or_else(|| installed_debug_file(image))
    }

    fn note(&mut self, image: &dyn RuntimeImage) {
        let (runtime, facts) = (image.runtime(), image.facts());
        let is_same = |known: &FoundRuntime| known.runtime.name() == runtime.name();
        let at = self.found.iter().position(is_same).unwrap_or_else(|| {
            self.found.push(FoundRuntime {
                runtime,
                versions: Vec::new(),
                has_parks: false,
            });
            self.found.len() - 1
        });
        let known = &mut self.found[at];
        for version in &facts.versions {
            if !known.versions.contains(version) {
                known.versions.push(version.clone());
            }
        }
        known.has_parks |= !facts.marks.park.is_empty();
    }

    /// A file may hold runtimes, `epoll_wait`, or, linked statically, both.
    fn plan_file(
        &mut self,
        file: ImageFile,
        image: Arc<Image>,
        bias: Option<u64>,
        plan: &mut Plan,
    ) -> Vec<PlannedImage> {
        let mut planned = Vec::new();
        if !self.epoll
            && !self.watch
            && let Some(offset) =
                epoll_wait(&file.file).and_then(|address| epoll_offset(&image, address))
            && let Some(copy) = copy(&file)
        {
            self.epoll = true;
            planned.push(epoll(copy, offset));
        }
        let debug_file = self.debug_file(&image);
        let (mut sketches, mut watched) = (Vec::new(), None);
        let found = match self.name_at_once {
            true => (self.cache).detect(self.runtimes, &image, debug_file.as_ref()),
            false => sketch(self.runtimes, &image, debug_file.as_ref()),
        };
        for found in found.unwrap_or_default() {
            let Some(copy) = copy(&file) else {
                continue;
            };
            self.note(found.as_ref());
            if let Some(bias) = bias {
                let image = Arc::clone(&found);
                self.mapped.push(MappedImage { image, bias });
            }
            let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata);
            let hides_roots = self.roots && found.facts().marks.park.is_empty();
            let is_watched_too = hides_roots || self.stand_in;
            let is_named = found.facts().is_named;
            watched = is_watched_too.then_some(inode).or(watched);
            if self.watch || is_watched_too && is_named {
                let words = self.cache.watch_words(&image, found.as_ref());
                self.watchable.push(Watchable::new(&image, inode, words));
            }
            if !found.facts().is_named {
                sketches.push((Arc::clone(&found), plan.size()));
            }
            planned.push(plan.add(copy, found, bias));
        }
        if !sketches.is_empty() {
            self.unnamed.push(Unnamed {
                image,
                debug_file,
                sketches,
                watched,
            });
        }
        planned
    }
}

/// The same open file once more; `None` if this process may have no more of them.
fn copy(file: &ImageFile) -> Option<ImageFile> {
    Some(ImageFile {
        file: file.file.try_clone().ok()?,
        metadata: file.metadata.clone(),
    })
}

/// A larger file is not searched for `epoll_wait`: its tables would be read into memory as large as
/// it says they are.
const MAX_SEARCHED: u64 = 1 << 30;

/// Where a file defines `epoll_wait`.
fn epoll_wait(file: &File) -> Option<VirtAddr> {
    if file.metadata().ok()?.len() > MAX_SEARCHED {
        return None;
    }
    let cache = object::ReadCache::new(file);
    let elf = object::File::parse(&cache).ok()?;
    let named = |name: &[u8]| name == b"epoll_wait";
    elf.dynamic_symbols()
        .chain(elf.symbols())
        .find(|s| s.is_definition() && s.address() != 0 && s.name_bytes().is_ok_and(named))
        .map(|s| VirtAddr(s.address()))
}
