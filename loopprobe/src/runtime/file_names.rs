//! What it takes long to find out of a file: its names, apart from the places that they belong to.

use serde::{Deserialize, Serialize};

use super::{DebugInfoLevel, ImageFacts, Runtime, ServedType, Site};
use crate::{
    elf::{FileOffset, VirtAddr},
    model::TaskType,
};

/// What [`super::detect`] knows of a file and [`super::sketch`] may not. It holds no place that
/// would be probed: whatever it says, a probe goes where the file itself was seen to have one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNames {
    debug_info: DebugInfoLevel,
    sites: Vec<SiteNames>,
    /// By place, the scheduler of each point where tasks are scheduled.
    schedule: Vec<(FileOffset, String)>,
}

/// Those of one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SiteNames {
    offset: FileOffset,
    types: Vec<TypeNames>,
}

/// Those of one task type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TypeNames {
    key: VirtAddr,
    function: VirtAddr,
    size: u32,
    scheduler: String,
    is_local: bool,
    ask_memory: bool,
    is_wrapper: bool,
    task: TaskType,
}

impl FileNames {
    /// What is known of a file.
    pub fn of(facts: &ImageFacts) -> Self {
        let schedule = facts.marks.schedule.iter();
        Self {
            debug_info: facts.debug_info,
            sites: facts.sites.iter().map(SiteNames::of).collect(),
            schedule: schedule
                .map(|point| (point.offset, point.scheduler.to_owned()))
                .collect(),
        }
    }

    /// A sketch with these names. `None` unless they are of the very places and types that the
    /// sketch has, in the same order, and of schedulers that the runtime knows.
    pub fn give(&self, sketch: &ImageFacts, runtime: &dyn Runtime) -> Option<ImageFacts> {
        let points = &sketch.marks.schedule;
        if self.sites.len() != sketch.sites.len() || self.schedule.len() != points.len() {
            return None;
        }
        let mut named = sketch.clone();
        for (names, site) in self.sites.iter().zip(&mut named.sites) {
            names.give(site, runtime)?;
        }
        for ((offset, scheduler), point) in self.schedule.iter().zip(&mut named.marks.schedule) {
            if point.offset != *offset {
                return None;
            }
            point.scheduler = word(runtime, scheduler)?;
        }
        named.debug_info = self.debug_info;
        named.is_named = true;
        Some(named)
    }
}

impl SiteNames {
    fn of(site: &Site) -> Self {
        Self {
            offset: site.offset,
            types: site.types.iter().map(TypeNames::of).collect(),
        }
    }

    fn give(&self, site: &mut Site, runtime: &dyn Runtime) -> Option<()> {
        if self.offset != site.offset || self.types.len() != site.types.len() {
            return None;
        }
        for (names, served) in self.types.iter().zip(&mut site.types) {
            names.give(served, runtime)?;
        }
        Some(())
    }
}

impl TypeNames {
    fn of(served: &ServedType) -> Self {
        Self {
            key: served.key,
            function: served.function,
            size: served.size,
            scheduler: served.scheduler.to_owned(),
            is_local: served.is_local,
            ask_memory: served.ask_memory,
            is_wrapper: served.is_wrapper,
            task: served.task.clone(),
        }
    }

    fn give(&self, served: &mut ServedType, runtime: &dyn Runtime) -> Option<()> {
        // A kind decides what is probed, so no name may change it.
        let is_same = self.key == served.key
            && self.function == served.function
            && self.size == served.size
            && self.task.kind == served.task.kind;
        if !is_same {
            return None;
        }
        served.scheduler = word(runtime, &self.scheduler)?;
        served.is_local = self.is_local;
        served.ask_memory = self.ask_memory;
        served.is_wrapper = self.is_wrapper;
        served.task = self.task.clone();
        Some(())
    }
}

fn word(runtime: &dyn Runtime, scheduler: &str) -> Option<&'static str> {
    let mut words = runtime.scheduler_words().iter().copied();
    words.find(|word| *word == scheduler)
}
