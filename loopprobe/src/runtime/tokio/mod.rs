//! Tokio, seen from outside.
//!
//! Every task of Tokio 1.23 and later refers to a static `Vtable`
//! (`tokio/src/runtime/task/raw.rs`): seven functions (poll, schedule, dealloc, try_read_output,
//! drop_join_handle_slow, drop_abort_handle, shutdown), then three offsets (trailer, scheduler,
//! id). Its first function, `tokio::runtime::task::raw::poll<F, S>`, is where polls are timed.

mod boxes;
mod chains;
mod context;
mod discover;
mod image;
mod known;
mod live;
mod loop_source;
mod names;
mod plumbing;
mod presence;
mod scheduler;
mod stand;
mod version;
mod vtable;

use std::{fs::File, path::Path, sync::Arc};

pub use discover::discover;
pub use image::{HeaderLayout, TokioImage};
pub use names::{BoxedFutures, ProcessMemory, readable};
pub use scheduler::Scheduler;
pub use version::Version;
pub use vtable::{RawVtable, VtableLayout};

use super::{
    DiscoverError, LoopCode, MappedImage, Plumbing, Presence, Probed, Runtime, RuntimeImage,
    RuntimeInstance, Stand, TaskFinder,
};
use crate::{
    elf::{ElfError, Image, Sections},
    model::Frame,
    process::ProcessError,
};

/// Tokio.
#[derive(Clone, Copy, Debug)]
pub struct Tokio;

impl Runtime for Tokio {
    fn name(&self) -> &'static str {
        "Tokio"
    }

    fn detect(
        &self,
        image: &Image,
        debug_file: Option<&Sections>,
    ) -> Result<Option<Arc<dyn RuntimeImage>>, DiscoverError> {
        let found = discover::find(image, debug_file)?;
        Ok(found.map(|image| Arc::new(image) as Arc<dyn RuntimeImage>))
    }

    fn sketch(
        &self,
        image: &Image,
        debug_file: Option<&Sections>,
    ) -> Result<Option<Arc<dyn RuntimeImage>>, DiscoverError> {
        let found = discover::sketch(image, debug_file)?;
        Ok(found.map(|image| Arc::new(image) as Arc<dyn RuntimeImage>))
    }

    fn presence(&self, file: File, path: &Path) -> Result<Option<Presence>, ElfError> {
        presence::presence(file, path)
    }

    fn scheduler_words(&self) -> &'static [&'static str] {
        &Scheduler::WORDS
    }

    fn instance(&self, pid: u32) -> Result<Option<Box<dyn RuntimeInstance>>, ProcessError> {
        Ok(Some(Box::new(boxes::Boxes::of(pid)?)))
    }

    fn task_finder(&self, pid: u32, images: &[MappedImage]) -> Option<Box<dyn TaskFinder>> {
        let finder = live::Finder::new(pid, images)?;
        Some(Box::new(finder))
    }

    fn plumbing(&self) -> Plumbing {
        plumbing::PLUMBING
    }

    fn not_covered(&self, probed: Probed) -> Vec<&'static str> {
        let roots = "the root future of a multi_thread runtime cannot be timed without symbols; where it is watched instead, a notice says so";
        let turns = "turns of a current_thread loop without tasks cannot be told apart: epoll_wait was not found";
        let missing = [(probed.parks, roots), (probed.epoll, turns)];
        let missing = missing.into_iter().filter(|(is_probed, _)| !is_probed);
        missing.map(|(_, sentence)| sentence).collect()
    }

    fn stand(&self, frames: &[Frame]) -> (Stand, bool) {
        stand::stand(frames)
    }

    fn loop_code(&self, files: &[&str]) -> LoopCode {
        loop_source::loop_code(files.iter().copied())
    }
}
