//! Stacks of the time between two polls, of which a part may be the root future's.

use loopprobe_common::records::StackRecord;

use super::{
    Stacks,
    seen::{Seen, Taken},
};
use crate::{
    collect::{
        gap::{Gap, Place},
        poll_key::PollKey,
    },
    model::LongPoll,
};

impl Stacks {
    /// Where a thread was between two polls, until `end_ns`.
    pub(in crate::collect) fn gap(&self, key: PollKey, end_ns: u64) -> Gap {
        let mut gap = Gap::default();
        for taken in self.of_gap(key, end_ns) {
            gap.join(&taken.gap);
        }
        gap
    }

    /// What was seen of the time between two polls: in the order of time. With entry-only timing a
    /// part of it may have been seen before the poll was known to be over ([`Self::keep_behind`]).
    fn of_gap(&self, (tid, start_ns): PollKey, end_ns: u64) -> Vec<&Taken> {
        if self.functions.is_none() {
            return self.polls.get(&(tid, start_ns)).into_iter().collect();
        }
        let is_of = |key: &PollKey| key.0 == tid && (start_ns..=end_ns).contains(&key.1);
        let mut seen: Vec<_> = self.polls.iter().filter(|(key, _)| is_of(key)).collect();
        seen.sort_unstable_by_key(|(key, _)| key.1);
        seen.into_iter().map(|(_, taken)| taken).collect()
    }

    /// Adds stacks and diagnosis to a part of a gap.
    pub(in crate::collect) fn explain_part(
        &mut self,
        key: PollKey,
        poll: &mut LongPoll,
        now_ns: u64,
    ) {
        let end_ns = poll.start_ns + poll.duration_ns;
        let mut part = Taken::default();
        for taken in self.of_gap(key, end_ns) {
            let is_of = |seen: &&Seen| (poll.start_ns..=end_ns).contains(&seen.start_ns);
            for seen in taken.stacks.iter().filter(is_of) {
                part.add(seen.clone());
            }
        }
        self.describe(poll, part, now_ns);
    }

    /// Keeps a stack that showed that its poll was over, by itself: it may be the root future's.
    pub(super) fn keep_behind(
        &mut self,
        record: &StackRecord,
        seen: Seen,
        place: Place,
        end_ns: u64,
    ) {
        if place != Place::Inside {
            return;
        }
        let behind = self.polls.entry((record.tid, record.start_ns)).or_default();
        behind.last_ns = end_ns;
        behind.gap.saw(
            place,
            seen.start_ns,
            end_ns,
            seen.blocked_ns,
            seen.runnable_ns,
        );
        behind.add(seen);
    }
}
