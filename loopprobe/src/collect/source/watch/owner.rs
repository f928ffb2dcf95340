//! Whose poll a stack shows.

use loopprobe_common::records::StackRecord;

use crate::{
    collect::stuck::Stuck,
    model::{TaskKind, TaskType},
    runtime::Runtime,
    unwind::{Means, RawStack, Unwound},
};

/// Whose poll a stack shows.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    /// The task's type. Of a closure of the blocking pool there is no poll but that of a future
    /// which it has given to `block_on`.
    pub task: TaskType,
    /// Whose tasks those are.
    pub runtime: &'static dyn Runtime,
    /// Whether the task itself was found, by its number.
    pub is_verified: bool,
}

impl Owner {
    /// Whether it is a task that an event loop polls, for certain.
    pub(crate) fn is_task(&self) -> bool {
        self.is_verified && self.task.kind == TaskKind::Async
    }

    /// The better known one of two.
    pub(crate) fn better(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.is_verified && !self.is_verified => other,
            _ => self,
        }
    }
}

/// Finds the innermost poll on a stack, and cuts the stack off there. Its entry is not known, so
/// the walk is whole if it came that far.
pub(crate) fn find(
    polls: &Stuck,
    record: &StackRecord,
    raw: &RawStack,
    unwound: &mut Unwound,
) -> Option<Owner> {
    if record.task_id == 0 {
        return None;
    }
    let poll = polls.innermost_of(raw, &unwound.frames, record.task_id)?;
    // Without unwind information, only the task on the stack proves that the function is its poll.
    let frames = &unwound.frames[..=poll.frame];
    if Means::of(frames) != Means::CallFrames && poll.task.is_none() {
        return None;
    }
    unwound.frames.truncate(poll.frame + 1);
    unwound.outcome = Means::of(&unwound.frames).outcome();
    let is_one = poll.task.is_some() || poll.keys.len() == 1;
    let task = polls.task_type(&poll).filter(|_| is_one)?;
    Some(Owner {
        task: task.clone(),
        runtime: poll.runtime,
        is_verified: poll.task.is_some(),
    })
}
