//! What is wrong with a loop as a whole: told from long polls, drivers and threads together.

pub(super) mod advice;
pub(super) mod busy_task;
pub(super) mod together;

use std::collections::{HashMap, HashSet, VecDeque};

use loopprobe_common::records::DriverRecord;

use self::busy_task::Watch;
use crate::model::{FindingKind, FoundPoll};

/// How long a poll that has ended is remembered.
const REMEMBERED_NS: u64 = 2_000_000_000;

/// Occurrences that are less than this apart are one. A task that is polled without end is missed
/// at a look now and then; it is found again after three more looks, and a second of watching.
fn apart_ns(kind: FindingKind) -> u64 {
    match kind {
        FindingKind::BusyTask => 3_000_000_000,
        _ => 1_000_000_000,
    }
}

/// How many are remembered at most.
const MOST_REMEMBERED: usize = 1_024;

/// A long poll, with what only the kernel side knows of it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The poll.
    pub poll: FoundPoll,
    /// The scheduler of its task; 0 if unknown.
    pub scheduler: u64,
    /// Whether it went through `block_in_place`, so that another thread is the worker.
    pub may_block: bool,
}

impl Seen {
    /// When it ended, or how far it is seen.
    pub(super) fn end_ns(&self) -> u64 {
        self.poll.start_ns.saturating_add(self.poll.duration_ns)
    }

    /// How much of it lies between two times.
    pub(super) fn overlap_ns(&self, from_ns: u64, to_ns: u64) -> u64 {
        let start_ns = self.poll.start_ns.max(from_ns);
        self.end_ns().min(to_ns).saturating_sub(start_ns)
    }
}

#[cfg(test)]
impl Seen {
    /// A poll of scheduler 1 that has ended.
    pub(super) fn ended(tid: u32, start_ns: u64, duration_ns: u64) -> Self {
        Self {
            poll: FoundPoll {
                tid,
                thread: "worker".to_owned(),
                task: "task".to_owned(),
                task_id: None,
                start_ns,
                duration_ns,
                ended: true,
                cause: None,
                call: None,
                advice: None,
            },
            scheduler: 1,
            may_block: false,
        }
    }
}

/// What is remembered to find what is wrong, and what has been said.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Long polls that have ended lately.
    recent: VecDeque<Seen>,
    /// Times without a turn of a driver that are over and have not been looked at.
    pub lags: Vec<DriverRecord>,
    /// When each was seen last.
    seen_ns: HashMap<(FindingKind, String), u64>,
    /// When threads that are no known workers are looked at next, by scheduler.
    pub next_walk_ns: HashMap<u64, u64>,
    /// Threads of a deadlock that has been said.
    pub deadlocked: HashSet<u32>,
    /// The task that is watched.
    pub watch: Watch,
    /// Since when each pool has been seen to keep its runtime from ending.
    pub closing_ns: HashMap<u64, u64>,
}

impl Findings {
    /// A long poll has ended.
    pub(super) fn ended(&mut self, seen: Seen) {
        self.recent.push_back(seen);
        if self.recent.len() > MOST_REMEMBERED {
            self.recent.pop_front();
        }
    }

    /// Those that ended lately, the last one last.
    pub(super) fn recent(&self) -> impl Iterator<Item = &Seen> {
        self.recent.iter()
    }

    /// Those that ended lately, and these that are open.
    pub(super) fn polls(&self, open: &[Seen]) -> Vec<Seen> {
        self.recent.iter().chain(open).cloned().collect()
    }

    /// Forgets what is old.
    pub(super) fn forget(&mut self, now: u64) {
        self.recent
            .retain(|seen| now.saturating_sub(seen.end_ns()) < REMEMBERED_NS);
        // Longer than the polls, or a poll that is remembered would begin an occurrence that has
        // been told.
        self.seen_ns.retain(|(kind, _), seen_ns| {
            now.saturating_sub(*seen_ns) < 2 * (REMEMBERED_NS + apart_ns(*kind))
        });
    }

    /// Whether an occurrence goes on that was seen before.
    pub(super) fn goes_on(&mut self, kind: FindingKind, subject: &str, at_ns: u64) -> bool {
        let key = (kind, subject.to_owned());
        let Some(seen_ns) = self.seen_ns.get_mut(&key) else {
            return false;
        };
        if at_ns.saturating_sub(*seen_ns) > apart_ns(kind) {
            return false;
        }
        *seen_ns = at_ns.max(*seen_ns);
        true
    }

    /// One begins.
    pub(super) fn begins(&mut self, kind: FindingKind, subject: &str, at_ns: u64) {
        self.seen_ns.insert((kind, subject.to_owned()), at_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occurrence_goes_on_until_it_was_not_seen_for_a_second() {
        const KIND: FindingKind = FindingKind::DriverLag;
        let apart_ns = apart_ns(KIND);
        let mut findings = Findings::default();
        assert!(!findings.goes_on(KIND, "a", 100));
        findings.begins(KIND, "a", 100);
        assert!(findings.goes_on(KIND, "a", apart_ns));
        assert!(findings.goes_on(KIND, "a", 2 * apart_ns));
        assert!(!findings.goes_on(KIND, "b", 2 * apart_ns));
        assert!(!findings.goes_on(KIND, "a", 4 * apart_ns));
    }

    #[test]
    fn no_poll_is_remembered_longer_than_what_was_said_of_it() {
        const KIND: FindingKind = FindingKind::AllWorkersBlocked;
        let mut findings = Findings::default();
        findings.begins(KIND, "a", 100);
        // Another poll of the same occurrence ended a little later, and is looked at as late as it
        // can be.
        let end_ns = 100 + apart_ns(KIND) / 2;
        findings.forget(end_ns + REMEMBERED_NS);
        assert!(findings.goes_on(KIND, "a", end_ns));
    }
}
