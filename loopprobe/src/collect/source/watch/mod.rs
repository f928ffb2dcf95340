//! Polls that are watched instead of probed: where threads keep what they poll, how long a poll
//! took for certain, and whose it was.

mod bounds;
mod owner;
pub(crate) mod place;

pub(crate) use bounds::{Proven, hi_ns, proven, proven_so_far};
pub(crate) use owner::{Owner, find as find_owner};
pub(crate) use place::{Watchable, words_of};

use std::collections::HashMap;

use loopprobe_common::records::StackRecord;

use super::Closer;
use crate::{
    attach::PlannedImage,
    collect::{naming::Named, poll_key::PollKey, stacks::Stacks, stuck::Stuck},
};

/// What only a session has that watches.
#[derive(Default)]
pub(crate) struct Watching {
    /// What recognises polls on stacks; `None` if stacks are not wanted.
    polls: Option<Stuck>,
    /// How often a poll may have been long, but is not for certain.
    pub possible: u64,
    /// Long polls of which no stack told the task type.
    pub unnamed: u64,
    /// Images that are not watched, a sentence each.
    pub unwatched: Vec<String>,
    /// When the threads were looked at last, before their states were read.
    pub looked_ns: u64,
    /// Where open polls were said to have begun: a thread, and when its poll was seen first.
    pub told: HashMap<PollKey, u64>,
    /// Tasks that a stack has shown, by their number.
    tasks: HashMap<u64, Owner>,
    /// `None` if no probe is ever placed beside.
    pub closer: Option<Closer>,
}

/// So many tasks are known at the most.
const MAX_TASKS: usize = 1 << 16;

impl Watching {
    /// Watches nothing yet.
    pub(crate) fn with(closer: Option<Closer>) -> Self {
        Self {
            closer,
            ..Self::default()
        }
    }

    /// Begins to watch what the process has mapped.
    pub(crate) fn look_at(
        &mut self,
        pid: u32,
        images: &[Watchable],
        planned: &[PlannedImage],
        stacks: Option<&mut Stacks>,
    ) {
        self.unwatched = images.iter().filter_map(Watchable::unwatched).collect();
        if let Some(stacks) = stacks {
            self.tell_runtimes(pid, planned, stacks);
        }
    }

    /// Which files hold poll functions, where that has changed.
    pub(crate) fn tell_runtimes(
        &mut self,
        pid: u32,
        planned: &[PlannedImage],
        stacks: &mut Stacks,
    ) {
        self.polls = Some(Stuck::of(pid, 0, planned, stacks));
    }

    /// An image's tasks have names now.
    pub(crate) fn name(&mut self, named: &Named) {
        if let Some(polls) = &mut self.polls {
            polls.name(named);
        }
    }

    /// The kernel side has taken a stack of a poll.
    pub(crate) fn stack(&mut self, record: &StackRecord, bytes: &[u8], stacks: &mut Stacks) {
        let Some(polls) = &self.polls else { return };
        if let Some(owner) = stacks.take_watched(record, bytes, polls)
            && owner.is_verified
        {
            self.learn(record.task_id, owner);
        }
    }

    fn learn(&mut self, task_id: u64, owner: Owner) {
        if self.tasks.len() >= MAX_TASKS {
            self.tasks.clear();
        }
        self.tasks.insert(task_id, owner);
    }

    /// The polls of a task are to be looked at closer, if it is known what it is.
    pub(crate) fn suspect(&mut self, task_id: u64) {
        if let (Some(closer), Some(owner)) = (&mut self.closer, self.tasks.get(&task_id))
            && owner.is_task()
        {
            closer.suspects.suspect(&owner.task);
        }
    }

    /// What is known of a task. It has its number for itself as long as the process runs.
    pub(crate) fn task(&self, task_id: u64) -> Option<&Owner> {
        self.tasks.get(&task_id)
    }

    /// The process has executed another program, whose tasks begin with the same numbers.
    pub(crate) fn forget_tasks(&mut self) {
        self.tasks.clear();
    }

    /// What recognises polls on stacks.
    pub(crate) fn polls(&self) -> Option<&Stuck> {
        self.polls.as_ref()
    }
}
