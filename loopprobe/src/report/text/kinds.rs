//! Which long polls have been told already: the first of a kind is told whole, later ones by a
//! line, and not every one.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    clock::nanoseconds,
    model::{Cause, LongPoll},
};

/// How long after a kind's block its next line may come. Each further line waits twice as long, up
/// to [`LONGEST_REST`].
const FIRST_REST: Duration = Duration::from_secs(2);
/// A kind that goes on and on is heard of so often.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Kinds remembered at most. Polls of further kinds are told whole each time.
const MAX_KINDS: usize = 10_000;

/// What is said of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// Everything: it is the first of its kind.
    Block,
    /// One line with the sums so far.
    Line(Sums),
    /// Nothing for now: the kind was heard of a moment ago. A later line counts it.
    Nothing,
}

/// Sums over a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Polls that have ended.
    pub(super) count: u64,
    /// Their time, in nanoseconds.
    pub(super) total_ns: u64,
    /// The longest, in nanoseconds.
    max_ns: u64,
}

#[derive(Debug)]
struct Kind {
    sums: Sums,
    rest_ns: u64,
    /// Until when nothing more is said, in the events' own time.
    quiet_until_ns: u64,
}

/// Polls with the same cause in the same call are of one kind; where no call is known, or the cause
/// is none of the call's doing, those of the same task type.
type Key = (Cause, String);

/// All kinds of a session.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    known: HashMap<Key, Kind>,
    /// Polls that were told while they were open, by thread and start.
    open: HashSet<(u32, u64)>,
}

impl Kinds {
    /// Counts a poll and decides what is said of it.
    pub(super) fn hear(&mut self, poll: &LongPoll) -> Say {
        let was_open = self.open.remove(&(poll.tid, poll.start_ns));
        if !poll.ended {
            self.open.insert((poll.tid, poll.start_ns));
        }
        let now_ns = poll.start_ns.saturating_add(poll.duration_ns);
        let key = key(poll);
        let full = self.known.len() >= MAX_KINDS;
        let Some(kind) = self.known.get_mut(&key) else {
            if !full {
                self.known.insert(key, Kind::first(poll, now_ns));
            }
            return Say::Block;
        };
        kind.again(poll, now_ns, was_open)
    }
}

impl Kind {
    fn first(poll: &LongPoll, now_ns: u64) -> Self {
        let mut kind = Self {
            sums: Sums::default(),
            rest_ns: nanoseconds(FIRST_REST),
            quiet_until_ns: now_ns + nanoseconds(FIRST_REST),
        };
        kind.sums.add(poll);
        kind
    }

    /// A poll that still goes on, the end of one that did, and one that is twice as long as any
    /// before are always told.
    fn again(&mut self, poll: &LongPoll, now_ns: u64, was_open: bool) -> Say {
        let outstanding = poll.duration_ns >= self.sums.max_ns.saturating_mul(2);
        self.sums.add(poll);
        if poll.ended && !was_open && !outstanding && now_ns < self.quiet_until_ns {
            return Say::Nothing;
        }
        self.rest_ns = (self.rest_ns * 2).min(nanoseconds(LONGEST_REST));
        self.quiet_until_ns = now_ns + self.rest_ns;
        Say::Line(self.sums)
    }
}

impl Sums {
    fn add(&mut self, poll: &LongPoll) {
        if poll.ended {
            self.count += 1;
            self.total_ns = self.total_ns.saturating_add(poll.duration_ns);
        }
        self.max_ns = self.max_ns.max(poll.duration_ns);
    }
}

fn key(poll: &LongPoll) -> Key {
    let Some(diagnosis) = &poll.diagnosis else {
        return (Cause::Unknown, poll.task.name.clone());
    };
    let call = match diagnosis.cause {
        // Where it was interrupted says nothing.
        Cause::Preempted | Cause::Throttled => None,
        _ => diagnosis.call.as_ref(),
    };
    let place = call.map_or(&poll.task.name, |call| &call.function);
    (diagnosis.cause, place.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn poll(start_ms: u64, duration_ms: u64, cause: &str, call: &str) -> LongPoll {
        serde_json::from_value(json!({
            "pid": 7, "tid": 9, "thread": "worker", "task_id": 1, "start_ns": start_ms * 1_000_000,
            "task": {"name": "api::handle", "name_source": "v0", "certain": true, "kind": "async"},
            "duration_ns": duration_ms * 1_000_000, "ended": true, "cause": cause,
            "call": {"function": call}, "evidence": {}, "advice": "", "stacks": [],
        }))
        .unwrap()
    }

    #[test]
    fn the_first_of_a_kind_is_told_whole_and_later_ones_ever_more_rarely() {
        let mut kinds = Kinds::default();
        let said: Vec<Say> = (0..600)
            .map(|i| kinds.hear(&poll(i * 100, 20, "sleep", "api::retry")))
            .collect();
        assert_eq!(said[0], Say::Block);
        let lines: Vec<Sums> = said
            .iter()
            .filter_map(|say| match say {
                Say::Line(sums) => Some(*sums),
                _ => None,
            })
            .collect();
        assert!((3..=6).contains(&lines.len()), "{lines:?}");
        assert_eq!(said.iter().filter(|say| **say == Say::Block).count(), 1);
        // A line counts those of which nothing was said.
        assert_eq!(lines[0].total_ns, lines[0].count * 20_000_000);
        assert!(lines[0].count > 15, "{lines:?}");
    }

    #[test]
    fn another_cause_or_call_is_another_kind() {
        let mut kinds = Kinds::default();
        assert_eq!(kinds.hear(&poll(0, 20, "sleep", "a")), Say::Block);
        assert_eq!(kinds.hear(&poll(50, 20, "lock", "a")), Say::Block);
        assert_eq!(kinds.hear(&poll(100, 20, "sleep", "b")), Say::Block);
        assert_eq!(kinds.hear(&poll(150, 20, "sleep", "a")), Say::Nothing);
        assert_eq!(kinds.hear(&poll(200, 20, "preempted", "a")), Say::Block);
        assert_eq!(kinds.hear(&poll(250, 20, "preempted", "b")), Say::Nothing);
    }

    #[test]
    fn what_is_out_of_the_ordinary_is_told_at_once() {
        let mut kinds = Kinds::default();
        assert_eq!(kinds.hear(&poll(0, 20, "sleep", "a")), Say::Block);
        assert!(matches!(
            kinds.hear(&poll(50, 40, "sleep", "a")),
            Say::Line(_)
        ));
        let mut open = poll(100, 300, "sleep", "a");
        open.ended = false;
        assert!(matches!(kinds.hear(&open), Say::Line(_)));
        open.ended = true;
        assert!(matches!(kinds.hear(&open), Say::Line(_)));
        assert_eq!(kinds.hear(&poll(600, 30, "sleep", "a")), Say::Nothing);
    }
}
