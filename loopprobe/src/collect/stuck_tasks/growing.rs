//! Task types whose live tasks only become more.

use std::collections::HashMap;

use super::{MOST_IDS, awaits};
use crate::{
    inventory::{Census, Task},
    model::{Awaited, TaskKind},
};

/// Looks in a row that must each see more than the one before. They are rarer where they take long.
const LEAST_LOOKS: u32 = 6;
/// For so many times the time of `--stuck`.
const LEAST_TIMES: u64 = 4;
/// So many tasks must have come on top. A program that has just begun to work has fewer.
const LEAST_GROWTH: u64 = 100;

/// A type whose live tasks only became more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Growing {
    /// The type's name.
    pub task: String,
    /// How many there were when that began, and are now.
    pub before: u64,
    /// See `before`.
    pub count: u64,
    /// When it began (`CLOCK_MONOTONIC`, nanoseconds).
    pub since_ns: u64,
    /// The ids of the oldest.
    pub ids: Vec<u64>,
    /// What the oldest awaits, outermost first, as far as that is known.
    pub awaits: Vec<Awaited>,
}

/// The looks in a row that each saw more.
#[derive(Clone, Copy, Debug)]
struct Run {
    since_ns: u64,
    before: u64,
    last: u64,
    looks: u32,
    /// How many there were when it was told last.
    told: u64,
}

/// How many live tasks of each type there were.
#[derive(Debug, Default)]
pub(super) struct Growth(HashMap<String, Run>);

impl Growth {
    /// What has to be told after this look. One that may have missed tasks says nothing.
    pub(super) fn look(&mut self, census: &Census, now_ns: u64, least_ns: u64) -> Vec<Growing> {
        if census.is_partial() {
            return Vec::new();
        }
        // A type of each scheduler has the same name.
        let mut tasks: HashMap<&str, Vec<&Task>> = HashMap::new();
        for task in &census.tasks {
            let own = &census.types[task.kind];
            if own.kind == TaskKind::Async {
                tasks.entry(own.name.as_str()).or_default().push(task);
            }
        }
        self.0.retain(|name, _| tasks.contains_key(name.as_str()));
        let grown = tasks.into_iter().filter_map(|(name, mut tasks)| {
            let run = self.see(name, tasks.len() as u64, now_ns, least_ns)?;
            tasks.sort_by_key(|task| task.id);
            let ids = tasks.iter().filter_map(|task| task.id);
            Some(Growing {
                task: name.to_owned(),
                before: run.before,
                count: run.last,
                since_ns: run.since_ns,
                ids: ids.take(MOST_IDS).collect(),
                awaits: awaits(tasks.first()?, name),
            })
        });
        let mut grown: Vec<_> = grown.collect();
        grown.sort_by(|a, b| (b.count, &a.task).cmp(&(a.count, &b.task)));
        grown
    }

    /// The run that has to be told: it is long, there are twice as many since it began, and since
    /// it was told.
    fn see(&mut self, name: &str, count: u64, now_ns: u64, least_ns: u64) -> Option<Run> {
        let begins = Run {
            since_ns: now_ns,
            before: count,
            last: count,
            looks: 0,
            told: count,
        };
        let run = self.0.entry(name.to_owned()).or_insert(begins);
        if count <= run.last {
            *run = begins;
            return None;
        }
        run.last = count;
        run.looks += 1;
        let lasted_ns = now_ns.saturating_sub(run.since_ns);
        let is_leak = run.looks >= LEAST_LOOKS
            && lasted_ns >= least_ns.saturating_mul(LEAST_TIMES)
            && count - run.before >= LEAST_GROWTH
            && count >= run.told.saturating_mul(2);
        if is_leak {
            run.told = count;
        }
        is_leak.then_some(*run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After which looks a type is told of that has these counts, if three looks take the time of
    /// `--stuck`.
    fn told(counts: impl Iterator<Item = u64>) -> Vec<usize> {
        told_with_looks_of(1, counts)
    }

    fn told_with_looks_of(ns: u64, counts: impl Iterator<Item = u64>) -> Vec<usize> {
        let mut growth = Growth::default();
        let mut looks = counts.enumerate();
        let told = looks
            .by_ref()
            .filter_map(|(look, count)| Some((look, growth.see("a", count, look as u64 * ns, 3)?)));
        told.map(|(look, run)| {
            assert!(run.last >= 2 * run.before);
            look
        })
        .collect()
    }

    #[test]
    fn looks_that_are_far_apart_need_be_fewer() {
        let counts = |each: u64| (1..30).map(move |look| each * look);
        assert_eq!(told(counts(40)), [12, 25]);
        assert_eq!(told_with_looks_of(10, counts(40)), [6, 13, 27]);
    }

    #[test]
    fn only_what_grows_at_each_look_for_long_is_told() {
        // Once, and again at twice as many.
        assert_eq!(told((1..40).map(|look| 10 * look)), [12, 25]);
        // One look at which it did not grow.
        assert_eq!(
            told((1..22).map(|look| if look == 11 { 100 } else { 10 * look })),
            [] as [usize; 0]
        );
        // Too few; not twice as many; as many as before.
        assert!(told(1..60).is_empty());
        assert!(told((1..40).map(|look| 10_000 + 100 * look)).is_empty());
        assert!(told(std::iter::repeat_n(500, 40)).is_empty());
        // It comes and goes.
        assert!(told((1..200).map(|look| 100 + 50 * (look % 10))).is_empty());
    }
}
