//! Names, which are read while polls are timed already.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::source::watch::place::Watchable;
use crate::{
    attach::PlanSize,
    cache::Cache,
    elf::{Image, Sections},
    runtime::{ImageFacts, RuntimeImage, Runtimes},
};

/// A file that has been planned without the names of its tasks.
#[derive(Debug)]
pub(super) struct Unnamed {
    /// The file's code and data.
    pub image: Arc<Image>,
    /// Its debug file.
    pub debug_file: Option<Sections>,
    /// What was planned of it, and where in the plan.
    pub sketches: Vec<(Arc<dyn RuntimeImage>, PlanSize)>,
    /// Its inode, if it is to be found out where threads keep what they poll.
    pub watched: Option<u64>,
}

/// A runtime in a file, with names.
#[derive(Debug)]
pub(super) struct Named {
    /// What was planned of it.
    pub sketch: Arc<dyn RuntimeImage>,
    /// Where in the plan.
    pub added_at: PlanSize,
    /// The same, with names.
    pub image: Arc<dyn RuntimeImage>,
    /// Where threads keep what they poll, if that was asked for.
    pub watchable: Option<Watchable>,
}

/// Reads names in a thread of its own.
#[derive(Debug)]
pub(super) struct Naming {
    runtimes: Runtimes,
    cache: Cache,
    thread: Option<JoinHandle<Vec<Named>>>,
    /// Readable once the thread is done.
    done: Arc<EventFd>,
}

impl Naming {
    /// Nothing is to be named.
    ///
    /// # Errors
    ///
    /// If the process has no descriptor left.
    pub(super) fn new(runtimes: Runtimes, cache: Cache) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            runtimes,
            cache,
            thread: None,
            done: Arc::new(EventFd::from_value_and_flags(0, flags)?),
        })
    }

    /// Begins with these files. The names of others must have been taken.
    ///
    /// # Errors
    ///
    /// If the process has no thread left.
    pub(super) fn begin(&mut self, files: Vec<Unnamed>) -> io::Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let (runtimes, cache, done) = (self.runtimes, self.cache, Arc::clone(&self.done));
        let thread = thread::Builder::new().name("loopprobe-names".into());
        self.thread = Some(thread.spawn(move || {
            // Said even where a file makes the thread panic.
            let _done = Done(done);
            give_way();
            files
                .iter()
                .flat_map(|file| named(runtimes, cache, file))
                .collect()
        })?);
        Ok(())
    }

    /// Whether there is something to take, now or later.
    pub(super) fn is_busy(&self) -> bool {
        self.thread.is_some()
    }

    /// Readable once there is something to take.
    pub(super) fn ready(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }

    /// What has been named, if all is done.
    pub(super) fn take(&mut self) -> Vec<Named> {
        match &self.thread {
            Some(thread) if thread.is_finished() => self.wait(),
            _ => Vec::new(),
        }
    }

    /// Waits for the end, and takes what has been named.
    pub(super) fn wait(&mut self) -> Vec<Named> {
        let named = self.thread.take().map(JoinHandle::join);
        let _ = self.done.read();
        // Without names the tasks are known by the places of their types.
        named.and_then(Result::ok).unwrap_or_default()
    }
}

/// Tells that the thread is done when it is dropped.
struct Done(Arc<EventFd>);

impl Drop for Done {
    fn drop(&mut self) {
        let _ = self.0.write(1);
    }
}

/// Lets the target's threads have the CPU first: names can wait. Nice values are a thread's own on
/// Linux (sched(7)).
fn give_way() {
    const NICE: libc::c_int = 5;
    // SAFETY: no memory is passed. A refusal leaves things as they are.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

fn named(runtimes: Runtimes, cache: Cache, file: &Unnamed) -> Vec<Named> {
    let sketches = file.sketches.iter().map(|(sketch, _)| Arc::clone(sketch));
    let debug_file = file.debug_file.as_ref();
    let found = cache.complete(runtimes, &file.image, debug_file, sketches.collect());
    let found = found.unwrap_or_default();
    let sketches = file.sketches.iter();
    let pairs = sketches.filter_map(|(sketch, added_at)| {
        let image = found
            .iter()
            .find(|image| image.runtime().name() == sketch.runtime().name())?;
        has_same_places(sketch.facts(), image.facts()).then(|| Named {
            sketch: Arc::clone(sketch),
            added_at: *added_at,
            image: Arc::clone(image),
            watchable: file.watched.map(|inode| {
                let words = cache.watch_words(&file.image, image.as_ref());
                Watchable::new(&file.image, inode, words)
            }),
        })
    });
    pairs.collect()
}

/// Whether both speak of the same sites and types, in the same order.
fn has_same_places(sketch: &ImageFacts, named: &ImageFacts) -> bool {
    sketch.sites.len() == named.sites.len()
        && sketch.sites.iter().zip(&named.sites).all(|(a, b)| {
            let keys = |types: &[crate::runtime::ServedType]| -> Vec<_> {
                types.iter().map(|served| served.key).collect()
            };
            a.offset == b.offset && a.role == b.role && keys(&a.types) == keys(&b.types)
        })
}
