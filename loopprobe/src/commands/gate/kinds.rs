//! Long polls by task type, cause and call, each counted and held against the limits.

use std::{collections::HashMap, time::Duration};

use super::{Check, Failure, place::place};
use crate::{
    model::{LongPoll, SourceLocation},
    report::{Chosen, EachOnce, Key, Measured, clean, key, kind, words},
};

/// The limits that were given, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub own_ns: Option<u64>,
    pub wall_ns: Option<u64>,
}

impl Limits {
    pub(super) fn new(own: Option<Duration>, wall: Option<Duration>) -> Self {
        let ns = |limit: Duration| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Self {
            own_ns: own.map(ns),
            wall_ns: wall.map(ns),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Each as the option that gave it.
    pub(super) fn all(&self) -> impl Iterator<Item = (Check, String)> {
        let own = self
            .own_ns
            .map(|ns| (Check::Own, format!("--fail-over {}", Chosen(ns))));
        let wall = self
            .wall_ns
            .map(|ns| (Check::Wall, format!("--fail-over-wall {}", Chosen(ns))));
        own.into_iter().chain(wall)
    }
}

/// The long polls of one task type, cause and call.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub key: Key,
    /// By what other builds know it.
    steady: Key,
    pub place: Option<SourceLocation>,
    pub advice: String,
    pub count: u64,
    pub own: Times,
    pub wall: Times,
    /// Whether others' part of a poll was not known, so that all of it counted.
    unsplit: bool,
}

/// How long polls of a kind took, in one sense.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// How many were over the limit.
    pub over: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

impl Times {
    fn add(&mut self, ns: u64, limit_ns: Option<u64>) {
        self.max_ns = self.max_ns.max(ns);
        self.over += u64::from(limit_ns.is_some_and(|limit_ns| ns > limit_ns));
    }
}

/// Every kind of long poll of a session, each poll once.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    once: EachOnce,
    limits: Limits,
    index: HashMap<Key, usize>,
    kinds: Vec<Kind>,
}

impl Kinds {
    pub(super) fn poll(&mut self, poll: &LongPoll, limits: &Limits) {
        self.limits = *limits;
        if let Some(poll) = self.once.settle(poll) {
            self.add(poll);
        }
    }

    /// Counts the polls that never ended.
    pub(super) fn end(&mut self) {
        for poll in self.once.rest() {
            self.add(&poll);
        }
    }

    fn add(&mut self, poll: &LongPoll) {
        if poll.is_blameless() {
            return;
        }
        let next = self.kinds.len();
        let at = *self.index.entry(key(poll)).or_insert(next);
        if at == next {
            self.kinds.push(Kind::of(poll));
        }
        let kind = &mut self.kinds[at];
        kind.count += 1;
        kind.unsplit |= poll.own_ns().is_none();
        let own_ns = poll.own_ns().unwrap_or(poll.duration_ns);
        kind.own.add(own_ns, self.limits.own_ns);
        kind.wall.add(poll.duration_ns, self.limits.wall_ns);
    }

    /// All, the one with the longest poll first, each with its number.
    pub(super) fn worst_first(&self) -> Vec<(usize, &Kind)> {
        let mut kinds: Vec<_> = self.kinds.iter().enumerate().collect();
        kinds.sort_by(|(_, a), (_, b)| {
            let by_name = || a.key.cmp(&b.key);
            b.own.max_ns.cmp(&a.own.max_ns).then_with(by_name)
        });
        kinds
    }

    /// Where to mend one.
    pub(super) fn place(&self, kind: usize) -> Option<&SourceLocation> {
        self.kinds.get(kind)?.place.as_ref()
    }

    /// The kind that another build knows by `steady`.
    pub(super) fn like(&self, steady: &Key) -> Option<usize> {
        self.kinds.iter().position(|kind| kind.steady == *steady)
    }

    /// What passed the limits.
    pub(super) fn over(&self, limits: &Limits) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (check, limit) in limits.all() {
            let kinds = self.worst_first();
            let over = kinds
                .into_iter()
                .filter(|(_, kind)| kind.times(check).over > 0);
            failures.extend(over.map(|(number, kind)| Failure {
                check,
                limit: limit.clone(),
                kind: Some(number),
                message: kind.message(check),
            }));
        }
        failures
    }
}

impl Kind {
    fn of(poll: &LongPoll) -> Self {
        let diagnosis = poll.diagnosis.as_ref();
        Self {
            key: key(poll),
            steady: kind(poll),
            place: place(poll),
            advice: diagnosis.map_or_else(String::new, |found| found.advice.clone()),
            count: 0,
            own: Times::default(),
            wall: Times::default(),
            unsplit: false,
        }
    }

    fn times(&self, check: Check) -> Times {
        match check {
            Check::Wall => self.wall,
            Check::Own | Check::Baseline => self.own,
        }
    }

    fn message(&self, check: Check) -> String {
        let Times { over, max_ns } = self.times(check);
        let max = Measured(max_ns);
        let polls = words::count(over, "poll");
        let of_its_own = match check {
            Check::Wall => "",
            _ if self.unsplit => " (what others took of it is not known)",
            _ => " of their own",
        };
        let advice = match self.advice.as_str() {
            "" => String::new(),
            advice => format!("; {}", clean(advice)),
        };
        format!(
            "{}: {polls} over the limit, up to {max}{of_its_own}{advice}",
            describe(&self.key, self.place.as_ref())
        )
    }
}

/// A kind in words: `api::upload, sleep in api::retry (src/upload.rs:57)`.
pub(super) fn describe((task, cause, call): &Key, place: Option<&SourceLocation>) -> String {
    let call = call
        .as_deref()
        .map_or_else(String::new, |call| format!(" in {}", clean(call)));
    let place = place.map_or_else(String::new, |place| format!(" ({})", words::place(place)));
    format!("{}, {}{call}{place}", clean(task), words::cause(*cause))
}
