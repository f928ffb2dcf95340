//! What a page is made of, in bounded memory: at most 2000 polls, the longest.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io,
};

use crate::model::{Event, LongPoll, Notice, Session, Summary};

use super::super::{EachOnce, Fold, Histogram, Ranking};

/// The timeline shows so many polls, the longest: a page with more is slow to open and not
/// readable.
pub(super) const MAX_POLLS: usize = 2_000;
/// So many remarks are kept.
const MAX_NOTICES: usize = 100;

/// What a page is made of.
#[derive(Default)]
pub(super) struct Gathered {
    pub fold: Fold,
    pub ranking: Ranking,
    pub histogram: Histogram,
    pub notices: Vec<Notice>,
    pub notices_left_out: u64,
    pub threads: BTreeMap<u32, Thread>,
    longest: BinaryHeap<Reverse<ByDuration>>,
    once: EachOnce,
}

/// What long polls did to one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Thread {
    pub name: String,
    pub polls: u64,
    pub total_ns: u64,
}

impl Gathered {
    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        self.fold.event(event);
        match event {
            Event::Session(_) | Event::Interval(_) | Event::Finding(_) => {}
            Event::LongPoll(poll) => {
                if let Some(poll) = self.once.settle(poll) {
                    self.poll(poll);
                }
            }
            Event::Notice(notice) if self.notices.len() < MAX_NOTICES => {
                self.notices.push(notice.clone());
            }
            Event::Notice(_) => self.notices_left_out += 1,
            Event::Summary(_) => {
                for poll in self.once.rest() {
                    self.poll(&poll);
                }
            }
        }
        Ok(())
    }

    fn poll(&mut self, poll: &LongPoll) {
        self.ranking.add(poll);
        self.histogram.add(poll.duration_ns);
        let thread = self.threads.entry(poll.tid).or_default();
        thread.name.clone_from(&poll.thread);
        thread.polls += 1;
        thread.total_ns = thread.total_ns.saturating_add(poll.duration_ns);
        self.keep(poll);
    }

    fn keep(&mut self, poll: &LongPoll) {
        let shortest = self
            .longest
            .peek()
            .map_or(0, |Reverse(poll)| poll.0.duration_ns);
        if self.longest.len() >= MAX_POLLS {
            if poll.duration_ns <= shortest {
                return;
            }
            self.longest.pop();
        }
        self.longest.push(Reverse(ByDuration(slim(poll))));
    }

    /// The longest polls, by their start.
    pub(super) fn polls(&self) -> Vec<&LongPoll> {
        let mut polls: Vec<_> = self.longest.iter().map(|Reverse(poll)| &poll.0).collect();
        polls.sort_by_key(|poll| (poll.start_ns, poll.tid));
        polls
    }

    pub(super) fn session(&self) -> Option<&Session> {
        self.fold.session.as_ref()
    }

    pub(super) fn summary(&self) -> Option<&Summary> {
        self.fold.summary.as_ref()
    }
}

/// A poll with as much of its stacks as a page shows.
fn slim(poll: &LongPoll) -> LongPoll {
    const STACKS: usize = 3;
    const FRAMES: usize = 60;
    let mut poll = poll.clone();
    poll.stacks.sort_by_key(|stack| Reverse(stack.ns));
    poll.stacks.truncate(STACKS);
    for stack in &mut poll.stacks {
        stack.frames.truncate(FRAMES);
    }
    poll
}

struct ByDuration(LongPoll);

impl PartialEq for ByDuration {
    fn eq(&self, other: &Self) -> bool {
        self.0.duration_ns == other.0.duration_ns
    }
}

impl Eq for ByDuration {}

impl PartialOrd for ByDuration {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByDuration {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.duration_ns.cmp(&other.0.duration_ns)
    }
}
