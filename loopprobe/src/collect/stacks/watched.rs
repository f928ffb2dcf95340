//! Stacks of polls that are watched: which poll they show is told by the stack itself.

use loopprobe_common::records::StackRecord;

use super::{Stacks, raw_stack};
use crate::{
    collect::{
        poll_key::PollKey,
        source::watch::{Owner, Proven, find_owner},
        stuck::Stuck,
    },
    model::LongPoll,
};

impl Stacks {
    /// A stack that the kernel side has taken; returns whose poll it shows.
    pub(crate) fn take_watched(
        &mut self,
        record: &StackRecord,
        bytes: &[u8],
        polls: &Stuck,
    ) -> Option<Owner> {
        let raw = raw_stack(record, bytes);
        let mut unwound = self.unwinder.unwind(raw_stack(record, bytes));
        let owner = find_owner(polls, record, &raw, &mut unwound);
        let end_ns = if record.end_ns == 0 {
            record.start_ns
        } else {
            record.end_ns
        };
        let mut seen = self.seen(record, unwound, end_ns);
        let taken = self.polls.entry((record.tid, record.poll_ns)).or_default();
        taken.last_ns = end_ns;
        seen.waker = taken.waker_of(record, seen.blocked_ns);
        if let Some(owner) = owner.clone() {
            taken.owner = Some(owner.better(taken.owner.take()));
        }
        if !taken.add(seen) {
            self.lost.stacks += 1;
        }
        owner
    }

    /// Adds stacks and diagnosis to a poll, of which only one wait is known to be its own; returns
    /// whose poll it is.
    pub(crate) fn explain_watched(
        &mut self,
        key: PollKey,
        poll: &mut LongPoll,
        wait: &Proven,
        now_ns: u64,
    ) -> Option<Owner> {
        let mut taken = self.polls.remove(&key).unwrap_or_default();
        taken.keep_of(wait);
        let owner = taken.owner.take();
        self.describe(poll, taken, now_ns);
        owner
    }

    /// The same of a poll that is still open. `current` is the stack of its thread, if that is off
    /// its CPU.
    pub(crate) fn explain_watched_open(
        &mut self,
        key: PollKey,
        poll: &mut LongPoll,
        wait: &Proven,
        current: Option<(&StackRecord, &[u8], &Stuck)>,
        now_ns: u64,
    ) -> Option<Owner> {
        let mut so_far = super::Taken::default();
        if let Some(taken) = self.polls.get(&key) {
            so_far.stacks.clone_from(&taken.stacks);
            so_far.takers.clone_from(&taken.takers);
            so_far.owner.clone_from(&taken.owner);
        }
        if let Some((record, bytes, polls)) = current {
            let raw = raw_stack(record, bytes);
            let mut unwound = self.unwinder.unwind(raw_stack(record, bytes));
            if let Some(owner) = find_owner(polls, record, &raw, &mut unwound) {
                so_far.owner = Some(owner.better(so_far.owner.take()));
            }
            let seen = self.seen(record, unwound, now_ns);
            so_far.add(seen);
        }
        so_far.keep_of(wait);
        let owner = so_far.owner.take();
        self.describe(poll, so_far, now_ns);
        owner
    }
}
