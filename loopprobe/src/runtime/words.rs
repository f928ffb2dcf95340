//! What a kernel program can read of a thread to see whether it polls a task, without a probe.

use serde::{Deserialize, Serialize};

use crate::elf::VirtAddr;

/// Where a thread-local variable lies.
pub use crate::code::ThreadPlace;

/// The words of a thread that tell whether it is in a poll, and of which task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchWords {
    /// The number of the task, in 8 bytes.
    pub task_id: ThreadPlace,
    /// How it was learnt.
    pub task_id_votes: Votes,
    /// Whether the 8 bytes before it say if there is a task at all (1) or not (0); else 0 is no
    /// task.
    pub has_tag: bool,
    /// The cooperative budget: the first byte is 1 inside a poll, the second what is left.
    pub budget: ThreadPlace,
    /// How it was learnt.
    pub budget_votes: Votes,
}

/// On how much code a finding rests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Votes {
    /// Functions that agree.
    pub agree: usize,
    /// Functions that say otherwise.
    pub differ: usize,
    /// Functions that were looked at.
    pub looked_at: usize,
}

/// Why a file's threads cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum NotWatchable {
    /// The runtime has no such words.
    #[error("this runtime keeps nothing by which a thread can be watched")]
    Runtime,
    /// How code for this processor keeps thread-local words is not read.
    #[error("where code for aarch64 keeps the task that a thread polls is not known")]
    Processor,
    /// The version is too old.
    #[error("before Tokio 1.23 a task's type does not tell where its number lies")]
    TooOld,
    /// No code was seen to store a task's number.
    #[error(
        "no code was found that keeps the task that a thread polls (as in programs built without optimisation)"
    )]
    NoTaskId,
    /// Functions disagree.
    #[error("it is not clear from the code where a thread keeps the task that it polls")]
    Ambiguous,
    /// No code was seen to store a budget there.
    #[error("no code was found that keeps the cooperative budget of a poll")]
    NoBudget,
}

impl WatchWords {
    /// How far the budget lies behind the task's number, in bytes.
    pub fn budget_distance(&self) -> Option<i64> {
        distance(self.task_id, self.budget)
    }
}

/// How far `to` lies behind `from`, if both lie in the same thread-local memory.
pub(crate) fn distance(from: ThreadPlace, to: ThreadPlace) -> Option<i64> {
    match (from, to) {
        (ThreadPlace::Fixed(from), ThreadPlace::Fixed(to)) => to.checked_sub(from),
        (ThreadPlace::InModule { offset: from, .. }, ThreadPlace::InModule { offset: to, .. }) => {
            to.checked_sub(from)
        }
        _ => None,
    }
}

/// A place for people.
pub(crate) fn in_words(place: ThreadPlace) -> String {
    let signed = |offset: i64| match offset {
        ..0 => format!("-{:#x}", offset.unsigned_abs()),
        _ => format!("+{offset:#x}"),
    };
    match place {
        ThreadPlace::Fixed(offset) => format!("fs{}", signed(offset)),
        ThreadPlace::InModule {
            slot: VirtAddr(slot),
            offset,
        } => format!("{} of the module in {slot:#x}", signed(offset)),
    }
}
