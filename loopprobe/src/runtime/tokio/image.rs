//! What an image holds of Tokio.

use std::sync::Arc;

use super::chains::Chains;
use crate::{
    elf::{Image, ProcAddr, Sections},
    process::Memory,
    runtime::{
        AwaitChains, DebugInfoLevel, Detail, FileNames, ImageFacts, Inspection, NotWatchable,
        Runtime, RuntimeImage, WatchWords,
    },
};

/// What an image holds of Tokio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokioImage {
    /// What any runtime has.
    pub facts: ImageFacts,
    /// The task header's layout.
    pub header: HeaderLayout,
}

impl TokioImage {
    /// What a task's header holds at this address, if it is one: its state, and its vtable's
    /// address in the process.
    fn state_and_vtable(&self, memory: &Memory, header: u64) -> Option<(u64, ProcAddr)> {
        // Headers are aligned at least to a word, and never in the first page.
        if !header.is_multiple_of(8) || header < 0x1000 || header >> 47 != 0 {
            return None;
        }
        let mut bytes = [0; HEADER_BYTES];
        let vtable = usize::try_from(self.header.vtable).ok()?;
        let bytes = bytes.get_mut(..vtable.checked_add(8)?)?;
        if memory.read(ProcAddr(header), bytes) != bytes.len() {
            return None;
        }
        let word = |at: usize| {
            let bytes = bytes.get(at..at.checked_add(8)?)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let state = word(usize::try_from(self.header.state).ok()?)?;
        Some((state, ProcAddr(word(vtable)?)))
    }
}

/// Where a task's header keeps what is read from outside. Source: `tokio/src/runtime/task/core.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderLayout {
    /// The state word: 0 in every version.
    pub state: u32,
    /// The pointer to the vtable: 0x10 from 1.21 on.
    pub vtable: u32,
    /// Whether the vtables have the eleventh word of `tokio_unstable` builds (the spawn location's
    /// offset).
    pub unstable: bool,
}

/// The `RUNNING` bit of a task's state word (`tokio/src/runtime/task/state.rs`, every version).
const RUNNING: u64 = 1;
/// The longest header that is read: up to the vtable and with it.
const HEADER_BYTES: usize = 48;

impl RuntimeImage for TokioImage {
    fn runtime(&self) -> &'static dyn Runtime {
        &super::Tokio
    }

    fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    fn with_names(&self, names: &FileNames) -> Option<Arc<dyn RuntimeImage>> {
        let facts = names.give(&self.facts, self.runtime())?;
        Some(Arc::new(Self {
            facts,
            header: self.header,
        }))
    }

    fn running_task(&self, memory: &Memory, header: u64) -> Option<ProcAddr> {
        let (state, vtable) = self.state_and_vtable(memory, header)?;
        (state & RUNNING != 0).then_some(vtable)
    }

    fn task_key(&self, memory: &Memory, header: u64) -> Option<ProcAddr> {
        let (_, vtable) = self.state_and_vtable(memory, header)?;
        Some(vtable)
    }

    fn await_chains(&self, debug: &Sections) -> Option<Box<dyn AwaitChains>> {
        if self.facts.debug_info != DebugInfoLevel::Full {
            return None;
        }
        let types = self.facts.sites.iter().flat_map(|site| &site.types);
        let polls = types.map(|served| served.function).collect();
        Some(Box::new(Chains::read(debug, &polls)?))
    }

    fn watch_words(&self, image: &Image) -> Result<WatchWords, NotWatchable> {
        super::context::find(image, &self.facts)
    }

    fn inspection(&self) -> Inspection {
        let HeaderLayout {
            state,
            vtable,
            unstable,
        } = self.header;
        let built = if unstable { ", tokio_unstable" } else { "" };
        Inspection {
            words: vec![(
                "layout",
                format!("vtable at {vtable:#x} of the header{built}"),
            )],
            header: vec![
                ("state", Detail::Bytes(state)),
                ("vtable", Detail::Bytes(vtable)),
                ("unstable", Detail::Flag(unstable)),
            ],
        }
    }
}
