//! Event loops that loopprobe knows, a folder each. Nothing outside knows which.
//!
//! A [`Runtime`] finds its own kind in a file; a [`RuntimeImage`] is what it found there; a
//! [`RuntimeInstance`] asks the memory of one process. What is probed, what the kernel side must
//! know of each task type, and whose frames are the loop's comes from these three, so that another
//! runtime is one row of [`RUNTIMES`].

mod detect;
mod file_names;
mod image;
mod instances;
mod live;
mod plumbing;
mod site;
mod stand;
pub mod tokio;
pub(crate) mod words;

use std::{fmt, fs::File, path::Path, sync::Arc};

use loopprobe_common::thread::STAGE_WORDS;

pub use detect::{DiscoverError, Presence, detect, installed_debug_file, presence, sketch};
pub use file_names::FileNames;
pub use image::{CodeCoverage, DebugInfoLevel, Detail, ImageFacts, Inspection, Mangling};
pub use instances::Instances;
pub use live::{
    AwaitChains, AwaitPoint, CountSource, LiveLoop, LiveTask, LiveTasks, LoopCount, MappedImage,
    PoolCount, PoolState, QueueEnds, Searched, TaskFinder, TaskState, Unclaimed,
};
pub use plumbing::Plumbing;
pub use site::{LoopMarks, SchedulePoint, ServedType, Site, SiteRole};
pub use stand::Stand;
pub use words::{NotWatchable, ThreadPlace, Votes, WatchWords};

use crate::{
    elf::{ElfError, Image, ProcAddr, Sections},
    model::{Cause, Frame, TaskType},
    process::{Memory, ProcessError},
};

/// A list of runtimes.
pub type Runtimes = &'static [&'static dyn Runtime];

/// The runtimes that are looked for, unless the caller of the library wants others.
pub static RUNTIMES: Runtimes = &[&tokio::Tokio];

/// An event loop, seen from outside.
pub trait Runtime: fmt::Debug + Send + Sync {
    /// What people call it; each has a name of its own.
    fn name(&self) -> &'static str;

    /// Looks for it in an image, whose separate debug file is `debug_file`. `None` if there is no
    /// trace of it.
    ///
    /// # Errors
    /// If it is there, but cannot be observed.
    fn detect(
        &self,
        image: &Image,
        debug_file: Option<&Sections>,
    ) -> Result<Option<Arc<dyn RuntimeImage>>, DiscoverError>;

    /// Like [`Self::detect`], but without what takes long and no probe needs: names. Where they are
    /// missing ([`ImageFacts::is_named`]), [`Self::detect`] gives them, to the same sites and types
    /// in the same order.
    ///
    /// # Errors
    /// As those of [`Self::detect`].
    fn sketch(
        &self,
        image: &Image,
        debug_file: Option<&Sections>,
    ) -> Result<Option<Arc<dyn RuntimeImage>>, DiscoverError> {
        self.detect(image, debug_file)
    }

    /// Whether a file holds it, without finding out more than that: this is asked of every file of
    /// every process.
    ///
    /// # Errors
    /// When it is no ELF image that can be read.
    fn presence(&self, file: File, path: &Path) -> Result<Option<Presence>, ElfError> {
        let found = self.detect(&Image::from_file(file, path)?, None);
        let found = found.ok().flatten();
        Ok(found.map(|image| Presence::of(image.facts())))
    }

    /// Its words for the schedulers of task types ([`ServedType::scheduler`]). A file is remembered
    /// only if it has no other.
    fn scheduler_words(&self) -> &'static [&'static str] {
        &[]
    }

    /// What names tasks by the memory of a process, if anything does. One for all images: they
    /// share what is mapped.
    ///
    /// # Errors
    /// If the process is gone.
    fn instance(&self, _pid: u32) -> Result<Option<Box<dyn RuntimeInstance>>, ProcessError> {
        Ok(None)
    }

    /// What finds the live tasks of a process that has these files mapped, all of them this
    /// runtime's. `None` if nothing does.
    fn task_finder(&self, _pid: u32, _images: &[MappedImage]) -> Option<Box<dyn TaskFinder>> {
        None
    }

    /// Whose frames are its own.
    fn plumbing(&self) -> Plumbing {
        Plumbing::default()
    }

    /// What to do about a cause in one of its tasks. `None` leaves the advice of the table of
    /// causes, which is Tokio's.
    fn advice(&self, _cause: Cause) -> Option<&'static str> {
        None
    }

    /// What a session cannot see of it, a sentence each, where no more than this is probed.
    fn not_covered(&self, _probed: Probed) -> Vec<&'static str> {
        Vec::new()
    }

    /// Where a thread with these frames, innermost first, stands inside the runtime while it polls
    /// no task, and whether that is certain.
    fn stand(&self, _frames: &[Frame]) -> (Stand, bool) {
        (Stand::Elsewhere, false)
    }

    /// What a function that is on a thread's stack says of it, whose code names these source files.
    fn loop_code(&self, _files: &[&str]) -> LoopCode {
        LoopCode::Silent
    }
}

/// What a function says of the thread that has it on its stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoopCode {
    /// It drives a root future, or parks, as a worker's loop does too.
    BlockOn,
    /// It is a worker's own loop.
    Worker,
    /// It is no loop's: a task's poll or code of no runtime, which a loop calls or which calls one.
    Called,
    /// Nothing.
    #[default]
    Silent,
}

/// What is probed besides sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Parks of threads that drive a root future ([`LoopMarks::park`]).
    pub parks: bool,
    /// `epoll_wait`, or it is not known yet whether it is.
    pub epoll: bool,
}

/// A runtime in a file.
pub trait RuntimeImage: fmt::Debug + Send + Sync {
    /// Which one.
    fn runtime(&self) -> &'static dyn Runtime;

    /// What was found.
    fn facts(&self) -> &ImageFacts;

    /// The same with other names ([`FileNames::give`]). `None` where nothing is to be remembered of
    /// files.
    fn with_names(&self, _names: &FileNames) -> Option<Arc<dyn RuntimeImage>> {
        None
    }

    /// If `header` is the address of a task that is being polled, what it refers to as its type
    /// ([`ServedType::key`]), as an address in the process. Any word of a stack may be asked.
    fn running_task(&self, _memory: &Memory, _header: u64) -> Option<ProcAddr> {
        None
    }

    /// The same of any task, whether or not it is being polled; what is no task may pass for one.
    fn task_key(&self, _memory: &Memory, _header: u64) -> Option<ProcAddr> {
        None
    }

    /// What tells where its tasks wait, from debug information with types; `None` where that tells
    /// nothing of them.
    fn await_chains(&self, _debug: &Sections) -> Option<Box<dyn AwaitChains>> {
        None
    }

    /// What a kernel program can read of a thread to see whether it polls a task; `image` is the
    /// file. Looks through code, which can take a second in a large program.
    ///
    /// # Errors
    /// Why there is nothing of the kind.
    fn watch_words(&self, _image: &Image) -> Result<WatchWords, NotWatchable> {
        Err(NotWatchable::Runtime)
    }

    /// What only this runtime has.
    fn inspection(&self) -> Inspection {
        Inspection::default()
    }
}

/// A runtime in a process.
pub trait RuntimeInstance {
    /// The process has mapped other files.
    fn refresh(&mut self) {}

    /// The type that a task's memory tells. The task may run meanwhile, or be gone: what is read
    /// must be checked.
    fn name(&mut self, task: &TaskRef<'_>) -> Option<TaskType>;
}

/// A task in a process's memory.
#[derive(Clone, Copy, Debug)]
pub struct TaskRef<'a> {
    /// Its type, as the file tells it.
    pub served: &'a ServedType,
    /// Its header: the first argument of the site's function.
    pub header: ProcAddr,
    /// Its number; 0 if that is not known.
    pub id: u64,
    /// What lay behind its id when its turn began, or zeros: a turn that completes its task leaves
    /// nothing of it.
    pub beginning: [u64; STAGE_WORDS],
}
