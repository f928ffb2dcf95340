//! The loops, task types and live tasks of a process at about one moment, and what is unsure.

use std::sync::Arc;

use crate::{
    model::TaskType,
    runtime::{AwaitPoint, TaskState, Unclaimed},
};

/// The live tasks of a process at about one moment.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// The event loops.
    pub loops: Vec<Loop>,
    /// The types of their tasks, each once.
    pub types: Vec<TaskType>,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Locks that were handed to futures which have not been polled since; its tasks are indices of
    /// [`Census::tasks`]. Empty unless [`Inventory::seek_unclaimed`] asked for them.
    ///
    /// [`Inventory::seek_unclaimed`]: super::Inventory::seek_unclaimed
    pub unclaimed: Vec<Unclaimed>,
    /// How many tasks are unsure, and left out.
    pub unsure: u64,
    /// Bytes of the process's memory that were not looked at: swapped out, or unmapped meanwhile.
    pub unread: u64,
}

/// An event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    /// Its kind, in the runtime's own word.
    pub scheduler: &'static str,
    /// Tasks spawned on it so far; `None` where the runtime does not count them.
    pub spawned: Option<u64>,
    /// Its tasks in the census.
    pub tasks: u64,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The runtime's number of it.
    pub id: Option<u64>,
    /// Its type: an index of [`Census::types`].
    pub kind: usize,
    /// What it does.
    pub state: TaskState,
    /// Whether it waits and nobody holds a waker of it, so that nothing can wake it.
    pub no_waker: bool,
    /// Its loop: an index of [`Census::loops`].
    pub of_loop: Option<usize>,
    /// Where it waits.
    pub at: At,
    /// The futures that it awaits, outermost first, where debug information tells them.
    pub chain: Option<Arc<[AwaitPoint]>>,
}

/// Where the outermost async function or block of a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    /// It has not been polled yet.
    Beginning,
    /// At this await, counted from 1 in the compiler's order, which is mostly the source's.
    Await(u32),
    /// It is not known.
    #[default]
    Unknown,
}

impl Census {
    /// Whether tasks may be missing.
    pub fn is_partial(&self) -> bool {
        self.unsure > 0
    }

    /// Keeps only the tasks whose type passes.
    pub fn retain(&mut self, passes: impl Fn(&TaskType) -> bool) {
        let kept: Vec<bool> = self.types.iter().map(passes).collect();
        self.tasks.retain(|task| kept[task.kind]);
    }
}
