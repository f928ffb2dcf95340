//! What a process has of tasks right now, read from outside without a probe.

mod awaits;
mod census;
mod population;
mod types;

use std::sync::Arc;

pub use census::{At, Census, Loop, Task};
pub use population::Population;

use self::{awaits::Source, types::Types};
use crate::{
    cache::Cache,
    elf::{Image, Sections},
    process::{ImageFile, Maps, Memory, ProcessError, can_read_memory, how_to_read},
    runtime::{
        DiscoverError, Instances, LiveTasks, MappedImage, Runtime, Runtimes, Searched, TaskFinder,
        installed_debug_file,
    },
};

/// Why a process's tasks cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The process itself cannot be read.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its memory cannot.
    #[error("no permission to read the memory of process {pid}; {}", how_to_read())]
    Memory {
        /// The process.
        pid: u32,
    },
    /// No file of it has a runtime.
    #[error("process {pid} does not use Tokio: none of its {files} executable files contains it{}", unread(.remarks))]
    NoRuntime {
        /// The process.
        pid: u32,
        /// Files looked at.
        files: usize,
        /// Those that could not be read, and why.
        remarks: Vec<String>,
    },
    /// There is one, but its tasks have a layout that is not known.
    #[error(
        "the tasks of process {pid} cannot be listed: that needs Tokio 1.23 or later, and it has {versions}"
    )]
    Layout {
        /// The process.
        pid: u32,
        /// What it has.
        versions: String,
    },
}

fn unread(remarks: &[String]) -> String {
    let lines = remarks.iter().map(|remark| format!("\nnot read: {remark}"));
    lines.collect()
}

/// What finds one runtime's tasks, and the files that hold it.
struct Found {
    runtime: &'static dyn Runtime,
    finder: Box<dyn TaskFinder>,
    /// The indices of its images among all.
    images: Vec<usize>,
}

/// The tasks of one process.
pub struct Inventory {
    pid: u32,
    found: Vec<Found>,
    instances: Instances,
    /// The code of the files; none where the files were read by somebody else.
    sources: Vec<Source>,
    /// By image, which of them it is.
    source_of: Vec<usize>,
    seeks_unclaimed: bool,
    /// Files that could not be read, a line each.
    pub remarks: Vec<String>,
}

impl std::fmt::Debug for Inventory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inventory")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl Inventory {
    /// Of a process: reads its files, which takes as long as an attach does (about 0.1 s, and
    /// seconds with much debug information). `debug_file` gives a separate debug file for an image,
    /// if the user named one.
    ///
    /// # Errors
    /// [`InventoryError`].
    pub fn of(
        runtimes: Runtimes,
        pid: u32,
        cache: Cache,
        debug_file: &mut dyn FnMut(&Image) -> Option<Sections>,
    ) -> Result<Self, InventoryError> {
        let maps = Maps::read(pid)?;
        if !can_read_memory(pid) {
            return Err(InventoryError::Memory { pid });
        }
        let (mut images, mut remarks, mut files) = (Vec::new(), Vec::new(), 0);
        let (mut sources, mut source_of) = (Vec::new(), Vec::new());
        for mapping in maps.images() {
            files += 1;
            let opened = ImageFile::open(pid, mapping).map_err(|error| error.to_string());
            let image = opened.and_then(|opened| {
                Image::shared(opened.file, &mapping.path).map_err(|error| error.to_string())
            });
            let image = match image {
                Ok(image) => image,
                Err(remark) => {
                    remarks.push(remark);
                    continue;
                }
            };
            let Some(bias) = maps.load_bias(mapping, &image) else {
                continue;
            };
            let debug_file = debug_file(&image).or_else(|| installed_debug_file(&image));
            match cache.detect(runtimes, &image, debug_file.as_ref()) {
                Ok(found) => {
                    source_of.extend(found.iter().map(|_| sources.len()));
                    let first = found.first().map(Arc::clone);
                    images.extend(found.into_iter().map(|image| MappedImage { image, bias }));
                    let first = first.as_deref();
                    sources.extend(first.map(|f| Source::of(image, f, debug_file.as_ref())));
                }
                Err(DiscoverError::Nothing { .. }) => {}
                Err(error) => remarks.push(error.to_string()),
            }
        }
        if images.is_empty() {
            return Err(InventoryError::NoRuntime {
                pid,
                files,
                remarks,
            });
        }
        let mut inventory = Self::with(runtimes, pid, &images)?;
        inventory.remarks = remarks;
        inventory.sources = sources;
        inventory.source_of = source_of;
        Ok(inventory)
    }

    /// Of a process whose files have been read, as those of a session have been. Reads nothing
    /// itself.
    ///
    /// # Errors
    /// [`InventoryError::Layout`] if nothing finds the tasks of these files' runtimes.
    pub fn with(
        runtimes: Runtimes,
        pid: u32,
        images: &[MappedImage],
    ) -> Result<Self, InventoryError> {
        let found = runtimes.iter().filter_map(|runtime| {
            let is_own = |mapped: &MappedImage| mapped.image.runtime().name() == runtime.name();
            let indices: Vec<_> = (0..images.len()).filter(|i| is_own(&images[*i])).collect();
            let own: Vec<_> = indices.iter().map(|index| images[*index].clone()).collect();
            let finder = (!own.is_empty()).then(|| runtime.task_finder(pid, &own))??;
            Some(Found {
                runtime: *runtime,
                finder,
                images: indices,
            })
        });
        let found: Vec<_> = found.collect();
        if found.is_empty() {
            let versions = images.iter().map(|mapped| {
                let facts = mapped.image.facts();
                format!(
                    "{} {}",
                    mapped.image.runtime().name(),
                    facts.versions.join(", ")
                )
            });
            let versions = versions.collect::<Vec<_>>().join(" and ");
            return Err(InventoryError::Layout { pid, versions });
        }
        Ok(Self {
            pid,
            found,
            instances: Instances::of(runtimes, pid),
            sources: Vec::new(),
            source_of: Vec::new(),
            seeks_unclaimed: false,
            remarks: Vec::new(),
        })
    }

    /// From now on looks for locks that nobody takes as well ([`Census::unclaimed`]), which takes
    /// two or three times as long.
    pub fn seek_unclaimed(&mut self) {
        self.seeks_unclaimed = true;
    }

    /// Looks for event loops anew; needed before the first of the other calls, and again to see
    /// loops that were created since ([`TaskFinder::search`] says what it costs).
    ///
    /// # Errors
    /// If the process is gone.
    pub fn search(&mut self) -> Result<Searched, ProcessError> {
        let mut all = Searched::default();
        for found in &mut self.found {
            all.add(found.finder.search()?);
        }
        Ok(all)
    }

    /// All live tasks: a search, then each loop's own list.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn take(&mut self) -> Result<Census, ProcessError> {
        let searched = self.search()?;
        let mut census = Census {
            unread: searched.unread,
            ..Census::default()
        };
        let mut types = Types::default();
        let memory = Memory::of(self.pid);
        for Found {
            runtime,
            finder,
            images,
        } in &mut self.found
        {
            let live = finder.tasks();
            let source_of = |image: usize| self.source_of.get(*images.get(image)?).copied();
            let places = awaits::places(&memory, &mut self.sources, &live.tasks, source_of);
            let chains = awaits::chains(&memory, &mut self.sources, &live.tasks, source_of);
            let places = places.into_iter().zip(chains);
            let first = census.loops.len();
            census.loops.extend(loops(finder.as_mut(), &live));
            census.unsure += live.unsure;
            if self.seeks_unclaimed {
                let before = census.tasks.len();
                let unclaimed = finder.unclaimed(&live.tasks)?.into_iter();
                let unclaimed = unclaimed.map(|unclaimed| unclaimed.behind(before));
                census.unclaimed.extend(unclaimed);
            }
            for (task, (at, chain)) in live.tasks.into_iter().zip(places) {
                let served = Arc::clone(&task.served);
                let index = types.index(&served, *runtime, &mut self.instances, task.header);
                let of_loop = task.of_loop.map(|index| first + index);
                if let Some(of_loop) = of_loop.and_then(|index| census.loops.get_mut(index)) {
                    of_loop.tasks += 1;
                }
                census.tasks.push(Task {
                    id: task.id,
                    kind: index,
                    state: task.state,
                    no_waker: task.no_waker,
                    of_loop,
                    at,
                    chain,
                });
            }
        }
        census.types = types.into_types();
        Ok(census)
    }
}

/// The loops of these tasks, with what the runtime counts itself.
fn loops(finder: &mut dyn TaskFinder, live: &LiveTasks) -> Vec<Loop> {
    let counts = finder.counts();
    let loops = live.loops.iter().map(|of_loop| {
        let count = counts.iter().find(|count| count.address == of_loop.address);
        Loop {
            scheduler: of_loop.scheduler,
            spawned: count.and_then(|count| count.spawned),
            tasks: 0,
        }
    });
    loops.collect()
}
