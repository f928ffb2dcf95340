//! What `inspect` says of the thread-local words by which a process could be watched.

use serde::Serialize;

use crate::{
    elf::VirtAddr,
    runtime::{NotWatchable, ThreadPlace, Votes, WatchWords, words::in_words},
};

/// Whether a file's threads can be watched without probes, and by what.
#[derive(Debug, Serialize)]
pub(super) struct WatchReport {
    pub possible: bool,
    pub reason: Option<String>,
    pub task_id: Option<WordReport>,
    /// Whether the word before the task's number says if there is one.
    pub task_id_has_tag: Option<bool>,
    pub budget: Option<WordReport>,
}

/// A thread-local word.
#[derive(Debug, Serialize)]
pub(super) struct WordReport {
    /// From the thread pointer, or into the module's block.
    pub offset: i64,
    /// The word in the file that holds the module's number once it is loaded.
    pub module_slot: Option<VirtAddr>,
    /// Functions whose code says so, and otherwise.
    pub agree: usize,
    pub differ: usize,
    pub looked_at: usize,
    #[serde(skip)]
    place: ThreadPlace,
}

impl WatchReport {
    pub(super) fn new(words: Result<WatchWords, NotWatchable>) -> Self {
        let reason = words.as_ref().err().map(ToString::to_string);
        let words = words.ok();
        Self {
            possible: words.is_some(),
            reason,
            task_id: words.map(|words| WordReport::new(words.task_id, words.task_id_votes)),
            task_id_has_tag: words.map(|words| words.has_tag),
            budget: words.map(|words| WordReport::new(words.budget, words.budget_votes)),
        }
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        let (Some(task_id), Some(budget)) = (&self.task_id, &self.budget) else {
            let reason = self.reason.as_deref().unwrap_or_default();
            return format!("not possible: {reason}");
        };
        let tag = match self.task_id_has_tag {
            Some(true) => " with a tag before it",
            _ => "",
        };
        format!(
            "task id at {}{tag} (code of {} of {} polls), budget at {} (code of {} functions)",
            in_words(task_id.place),
            task_id.agree,
            task_id.looked_at,
            in_words(budget.place),
            budget.agree,
        )
    }
}

impl WordReport {
    fn new(place: ThreadPlace, votes: Votes) -> Self {
        let (offset, module_slot) = match place {
            ThreadPlace::Fixed(offset) => (offset, None),
            ThreadPlace::InModule { slot, offset } => (offset, Some(slot)),
        };
        Self {
            offset,
            module_slot,
            agree: votes.agree,
            differ: votes.differ,
            looked_at: votes.looked_at,
            place,
        }
    }
}
