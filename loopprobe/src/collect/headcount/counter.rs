//! Counts, and searches for loops where somebody polls that is not known.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Headcount, PATIENCE, Question, Seen, queues::Queues};
use crate::{
    clock::now_ns,
    inventory::Population,
    process::Gauge,
    runtime::{MappedImage, Runtimes},
};

/// Loops are looked for again after so long at the latest.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(60);
/// After a search that did not find all loops, the next one waits so long, and twice as long each
/// time.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// A search takes at most so much of the time, one part in this.
const SEARCH_SHARE: u32 = 50;
/// Walks of lists, where the runtime does not count, take at most one part in this.
const WALK_SHARE: u32 = 50;

/// What the thread knows.
pub(super) struct Counter {
    runtimes: Runtimes,
    pid: u32,
    images: Vec<MappedImage>,
    /// The search that has ended last.
    population: Option<Population>,
    /// The search that is under way, and whom it could find.
    search: Option<(JoinHandle<Option<Found>>, Seen)>,
    /// Schedulers that are not known, and after how many searches that do not find them they have
    /// gone: they have tasks no more.
    unknown: BTreeMap<u64, u32>,
    /// Those that a search did not find. If one polls after all, its tasks are hidden.
    missed: BTreeSet<u64>,
    /// Threads with loops of their own that have not been searched for, and those that have.
    new_threads: BTreeSet<u32>,
    sought_threads: BTreeSet<u32>,
    next_search: Instant,
    retry: Duration,
    next_walk: Instant,
    queues: Queues,
    last: Option<Headcount>,
}

/// What a search found, and how long it took.
type Found = (Population, Duration);

impl Counter {
    pub(super) fn of(runtimes: Runtimes, pid: u32) -> Self {
        let now = Instant::now();
        Self {
            runtimes,
            pid,
            images: Vec::new(),
            population: None,
            search: None,
            unknown: BTreeMap::new(),
            missed: BTreeSet::new(),
            new_threads: BTreeSet::new(),
            sought_threads: BTreeSet::new(),
            next_search: now,
            retry: FIRST_RETRY,
            next_walk: now,
            queues: Queues::default(),
            last: None,
        }
    }

    pub(super) fn answer(&mut self, question: Question) -> Option<Headcount> {
        if let Some(images) = question.images {
            // A search that is under way looks for the wrong types.
            *self = Self {
                images,
                ..Self::of(self.runtimes, self.pid)
            };
        }
        self.see(question.seen);
        self.take_found();
        if self.population.is_none() || Instant::now() >= self.next_walk {
            self.last = self.count();
        }
        if Instant::now() >= self.next_search && self.search.is_none() {
            self.begin_search();
        }
        self.last.clone()
    }

    fn see(&mut self, seen: Seen) {
        for scheduler in seen.schedulers {
            let searches = if self.missed.contains(&scheduler) {
                2
            } else {
                1
            };
            self.unknown.insert(scheduler, searches);
        }
        let new = seen.threads.difference(&self.sought_threads);
        self.new_threads.extend(new);
    }

    /// The loops that are known, if those are all.
    fn count(&mut self) -> Option<Headcount> {
        let population = self.population.as_mut()?;
        let (begun, time_ns) = (Instant::now(), now_ns());
        let loops = population.counts();
        let pools = population.pools();
        let took = begun.elapsed().saturating_sub(PATIENCE);
        self.next_walk = Instant::now() + took * WALK_SHARE;
        for count in loops.iter().flatten() {
            self.unknown.remove(&count.address.0);
            self.missed.remove(&count.address.0);
        }
        if !self.unknown.is_empty() || !self.new_threads.is_empty() {
            self.next_search = self.next_search.min(begun + self.retry);
            return None;
        }
        let loops = loops.filter(|_| lives(self.pid))?;
        let pools = pools.map(|pools| self.queues.see(&pools, time_ns));
        Some(Headcount {
            time_ns,
            loops,
            pools,
        })
    }

    fn begin_search(&mut self) {
        self.next_search = Instant::now() + BETWEEN_SEARCHES;
        // Where this is none, nothing is found however often it is looked for.
        let Some(mut population) = Population::of(self.runtimes, self.pid, &self.images) else {
            return;
        };
        let thread = thread::Builder::new().name("loopprobe-search".into());
        let search = thread.spawn(move || {
            let begun = Instant::now();
            population.search().ok()?;
            Some((population, begun.elapsed()))
        });
        let sought = Seen {
            schedulers: self.unknown.keys().copied().collect(),
            threads: self.new_threads.clone(),
        };
        self.search = search.ok().map(|search| (search, sought));
    }

    fn take_found(&mut self) {
        let is_over = |(search, _): &mut (JoinHandle<_>, _)| search.is_finished();
        let Some((search, sought)) = self.search.take_if(is_over) else {
            return;
        };
        let Some((population, took)) = search.join().ok().flatten() else {
            return;
        };
        self.population = Some(population);
        self.next_walk = Instant::now();
        let pause = (took * SEARCH_SHARE).max(BETWEEN_SEARCHES);
        self.next_search = Instant::now() + pause;
        let hides = sought.schedulers.iter().any(|s| self.missed.contains(s));
        let retry = if hides { self.retry * 2 } else { FIRST_RETRY };
        self.retry = retry.max(took * 10).min(pause);
        for scheduler in sought.schedulers {
            self.missed.insert(scheduler);
            if let Some(searches) = self.unknown.get_mut(&scheduler) {
                *searches -= 1;
            }
        }
        self.unknown.retain(|_, searches| *searches > 0);
        self.new_threads.retain(|tid| !sought.threads.contains(tid));
        self.sought_threads.extend(sought.threads);
    }
}

/// Whether the process still has memory: what is read of one that has ended would be nothing.
fn lives(pid: u32) -> bool {
    let statm = Gauge::open(format!("/proc/{pid}/statm"));
    let sizes = statm.ok().and_then(|statm| statm.read());
    sizes.is_some_and(|sizes| !sizes.starts_with("0 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_has_no_tasks_that_could_be_counted() {
        assert!(lives(std::process::id()));
        assert!(!lives(0));
    }
}
