//! Every long poll's kind and duration, so that counts follow the filter and the threshold.

use std::collections::{HashMap, VecDeque};

use crate::{
    model::LongPoll,
    report::{Histogram, Key, key, words},
};

/// So many long polls are counted; with more, the oldest are forgotten.
const MAX_SEEN: usize = 1 << 20;

/// What polls of one kind have in common: task type, cause and call.
type Kind = Key;

/// Every long poll by its kind and duration, so that what is counted follows the filter and the
/// threshold.
#[derive(Debug, Default)]
pub(super) struct Seen {
    kinds: Vec<Kind>,
    ids: HashMap<Kind, u32>,
    polls: VecDeque<(u32, u64)>,
}

/// Counts of long polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub count: u64,
    /// Their total, in nanoseconds.
    pub total_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

impl Counted {
    fn add(&mut self, ns: u64) {
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }
}

impl Seen {
    /// Takes a long poll, once.
    pub(super) fn add(&mut self, poll: &LongPoll) {
        let kind = key(poll);
        let id = *self.ids.entry(kind.clone()).or_insert_with(|| {
            self.kinds.push(kind);
            self.kinds.len() as u32 - 1
        });
        if self.polls.len() == MAX_SEEN {
            self.polls.pop_front();
        }
        self.polls.push_back((id, poll.duration_ns));
    }

    /// Counts of what the view shows, by task type.
    pub(super) fn by_task<'a>(&'a self, view: View<'a>) -> HashMap<&'a str, Counted> {
        let mut tasks: HashMap<&str, Counted> = HashMap::new();
        for (kind, ns) in self.shown(view) {
            tasks.entry(&kind.0).or_default().add(ns);
        }
        tasks
    }

    /// Counts of all that the view shows.
    pub(super) fn all(&self, view: View<'_>) -> Counted {
        let mut all = Counted::default();
        self.shown(view).for_each(|(_, ns)| all.add(ns));
        all
    }

    /// The durations of what the view shows.
    pub(super) fn histogram(&self, view: View<'_>) -> Histogram {
        let mut histogram = Histogram::default();
        self.shown(view).for_each(|(_, ns)| histogram.add(ns));
        histogram
    }

    fn shown<'a>(&'a self, view: View<'a>) -> impl Iterator<Item = (&'a Kind, u64)> {
        let wanted: Vec<bool> = self.kinds.iter().map(|kind| view.wants(kind)).collect();
        self.polls
            .iter()
            .filter(move |(id, ns)| wanted[*id as usize] && *ns >= view.threshold_ns)
            .map(|(id, ns)| (&self.kinds[*id as usize], *ns))
    }
}

/// What the user wants to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// In lower case; empty for all.
    pub filter: &'a str,
    /// Shorter polls are not shown.
    pub threshold_ns: u64,
}

impl View<'_> {
    /// Whether polls of a kind are wanted.
    pub(super) fn wants(&self, (task, cause, call): &Kind) -> bool {
        self.matches(task)
            || self.matches(words::cause(*cause))
            || call.as_ref().is_some_and(|call| self.matches(call))
    }

    /// Whether a text has the filter in it.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.filter.is_empty() || text.to_lowercase().contains(self.filter)
    }
}
