//! Keeps open polls back until their last word, so that no duration is counted twice.

use std::collections::HashMap;

use crate::model::LongPoll;

/// Lets each poll through once.
///
/// A poll that still runs is reported meanwhile with `ended: false`, and again when it ends. Views
/// that add up durations want the last word only: the end, or the latest report of a poll that
/// never ended.
#[derive(Debug, Default)]
pub struct EachOnce {
    open: HashMap<Key, LongPoll>,
}

/// A thread runs one poll at a time at each depth, and a nested one starts later.
type Key = (u32, u32, u64, Option<u64>);

fn key(poll: &LongPoll) -> Key {
    (poll.pid, poll.tid, poll.start_ns, poll.task_id)
}

impl EachOnce {
    /// Whether a poll is being kept.
    pub fn knows(&self, poll: &LongPoll) -> bool {
        self.open.contains_key(&key(poll))
    }

    /// Gives back a poll that has ended; keeps one that still runs for [`Self::rest`].
    pub fn settle<'a>(&mut self, poll: &'a LongPoll) -> Option<&'a LongPoll> {
        let key = key(poll);
        if poll.ended {
            self.open.remove(&key);
            return Some(poll);
        }
        self.open.insert(key, poll.clone());
        None
    }

    /// The polls that never ended, by their start.
    pub fn rest(&mut self) -> Vec<LongPoll> {
        let mut rest: Vec<_> = self.open.drain().map(|(_, poll)| poll).collect();
        rest.sort_by_key(|poll| (poll.start_ns, poll.tid));
        rest
    }
}
