//! How many tasks live, read from the process's memory in a thread of its own: a search of the memory may take seconds.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    clock::now_ns,
    inventory::Population,
    model::Pool,
    runtime::{LoopCount, MappedImage, PoolCount, Runtimes},
};

/// How long an answer is waited for. Where the runtime counts its tasks it takes some microseconds.
const PATIENCE: Duration = Duration::from_millis(5);
/// An answer is used for so long at least, where a later one takes longer.
const LEAST_FRESH_NS: u64 = 1_000_000_000;
/// Loops are looked for again after so long at the latest.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(60);
/// After a search that did not find all loops, the next one waits so long, and twice as long each time.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// A search takes at most so much of the time, one part in this.
const SEARCH_SHARE: u32 = 50;
/// Walks of lists, where the runtime does not count, take at most one part in this.
const WALK_SHARE: u32 = 20;

/// Who polled since the last question: a loop that is not among those known has to be searched for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Schedulers of tasks that were polled.
    pub schedulers: BTreeSet<u64>,
    /// Threads with a loop of their own, whose scheduler need not be known.
    pub threads: BTreeSet<u32>,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.schedulers.extend(other.schedulers);
        self.threads.extend(other.threads);
    }
}

/// The tasks of the process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headcount {
    /// When (`CLOCK_MONOTONIC`, nanoseconds).
    pub time_ns: u64,
    /// The loops.
    pub loops: Vec<LoopCount>,
    /// Their blocking pools, if those are known.
    pub pools: Option<Vec<PoolNow>>,
}

/// A blocking pool at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolNow {
    /// Its threads and closures.
    pub count: PoolCount,
    /// For how long the first closure of the queue has waited at least, if one waits.
    pub oldest_ns: Option<u64>,
}

impl Headcount {
    /// All pools together.
    pub fn pool(&self) -> Option<Pool> {
        let pools = self.pools.as_ref()?;
        let sum = |of: fn(&PoolCount) -> u64| pools.iter().map(|pool| of(&pool.count)).sum();
        Some(Pool {
            busy: sum(|pool| pool.busy),
            idle: Some(sum(|pool| pool.idle)),
            queued: Some(sum(|pool| pool.queued)),
            cap: pools.iter().map(|pool| pool.count.cap).sum(),
            oldest_ns: pools.iter().filter_map(|pool| pool.oldest_ns).max(),
        })
    }

    /// Tasks that are alive.
    pub fn active(&self) -> u64 {
        self.loops.iter().map(|count| count.active).sum()
    }

    /// Tasks spawned and completed since an earlier moment. `None` if a loop does not count what it spawns, or if loops have come
    /// or gone meanwhile: what they had spawned before is not known.
    pub fn since(&self, earlier: &Self) -> Option<(u64, u64)> {
        if self.loops.len() != earlier.loops.len() {
            return None;
        }
        let spawned = self.loops.iter().map(|count| {
            let same = |other: &&LoopCount| other.address == count.address;
            let before = earlier.loops.iter().find(same)?.spawned?;
            count.spawned?.checked_sub(before)
        });
        let spawned: u64 = spawned.sum::<Option<u64>>()?;
        // The two counters of a loop are not read at quite the same time.
        let completed = (earlier.active() + spawned).saturating_sub(self.active());
        Some((spawned, completed))
    }
}

/// What is asked.
struct Question {
    images: Option<Vec<MappedImage>>,
    seen: Seen,
}

/// Asks for headcounts.
#[derive(Debug)]
pub struct Headcounts {
    /// `None` if there is no thread to ask.
    questions: Option<SyncSender<Question>>,
    answers: Receiver<Option<Headcount>>,
    /// How many questions have not been answered.
    asked: u64,
    /// What was known last.
    last: Option<Headcount>,
    /// How many files the thread has been told of; `None` if what it knows is of another program.
    images: Option<usize>,
    /// Who polled since the last question.
    seen: Seen,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").finish_non_exhaustive()
    }
}

impl Headcounts {
    /// Of a process. Without a thread nothing is ever known.
    pub fn of(runtimes: Runtimes, pid: u32) -> Self {
        let (questions, asked) = sync_channel::<Question>(1);
        let (answer, answers) = sync_channel(4);
        let thread = thread::Builder::new().name("loopprobe-tasks".into());
        let started = thread.spawn(move || {
            let mut counter = Counter::of(runtimes, pid);
            for question in asked {
                if answer.send(counter.answer(question)).is_err() {
                    return;
                }
            }
        });
        Self {
            questions: started.is_ok().then_some(questions),
            answers,
            asked: 0,
            last: None,
            images: None,
            seen: Seen::default(),
        }
    }

    /// The process has executed another program: all that was known is gone.
    pub fn forget(&mut self) {
        self.images = None;
        self.last = None;
    }

    /// Somebody polled.
    pub fn see(&mut self, seen: Seen) {
        self.seen.add(seen);
    }

    /// How many tasks live now, as far as it is known; not older than `most_ns`, or than a second if that is longer. Takes
    /// milliseconds at most. `images` is all files that the process has mapped.
    pub fn take(&mut self, images: &[MappedImage], most_ns: u64) -> Option<Headcount> {
        self.receive();
        if self.asked == 0 {
            self.ask(images);
        }
        let until = Instant::now() + PATIENCE;
        while self.asked > 0 {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(answer) = self.answers.recv_timeout(left) else {
                break;
            };
            self.answered(answer);
        }
        let fresh_ns = most_ns.max(LEAST_FRESH_NS);
        let is_fresh = |last: &&Headcount| now_ns().saturating_sub(last.time_ns) <= fresh_ns;
        self.last.as_ref().filter(is_fresh).cloned()
    }

    fn ask(&mut self, images: &[MappedImage]) {
        let Some(questions) = &self.questions else {
            return;
        };
        let question = Question {
            images: (self.images != Some(images.len())).then(|| images.to_vec()),
            seen: std::mem::take(&mut self.seen),
        };
        self.images = Some(images.len());
        match questions.try_send(question) {
            Ok(()) => self.asked += 1,
            // It is gone, which only a panic explains.
            Err(_) => self.questions = None,
        }
    }

    fn receive(&mut self) {
        while self.asked > 0 {
            match self.answers.try_recv() {
                Ok(answer) => self.answered(answer),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.asked = 0,
            }
        }
    }

    fn answered(&mut self, answer: Option<Headcount>) {
        self.asked -= 1;
        self.last = answer;
    }
}

/// What the thread knows.
struct Counter {
    runtimes: Runtimes,
    pid: u32,
    images: Vec<MappedImage>,
    /// The search that has ended last.
    population: Option<Population>,
    /// The search that is under way, and whom it could find.
    search: Option<(JoinHandle<Option<Found>>, Seen)>,
    /// Schedulers that are not known, and after how many searches that do not find them they have gone: they have tasks no more.
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
    fn of(runtimes: Runtimes, pid: u32) -> Self {
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

    fn answer(&mut self, question: Question) -> Option<Headcount> {
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

/// By pool, moments and the closure that came last at each. Closures are numbered and taken in the order in which they come, so the
/// first one of the queue has waited since before the earliest moment at which the last one was not older.
#[derive(Debug, Default)]
struct Queues(BTreeMap<u64, VecDeque<(u64, u64)>>);

impl Queues {
    fn see(&mut self, pools: &[PoolCount], time_ns: u64) -> Vec<PoolNow> {
        let mut before = std::mem::take(&mut self.0);
        let pools = pools.iter().map(|pool| {
            let mut marks = before.remove(&pool.address.0).unwrap_or_default();
            let oldest_ns = pool.ends.map(|ends| {
                marks.retain(|(_, last)| *last >= ends.first);
                if marks.back().is_none_or(|(_, last)| *last < ends.last) {
                    marks.push_back((time_ns, ends.last));
                }
                let since = marks.front().map_or(time_ns, |(since, _)| *since);
                time_ns.saturating_sub(since)
            });
            if oldest_ns.is_some() {
                self.0.insert(pool.address.0, marks);
            }
            PoolNow {
                count: *pool,
                oldest_ns,
            }
        });
        pools.collect()
    }
}

/// Whether the process still has memory: what is read of one that has ended would be nothing.
fn lives(pid: u32) -> bool {
    let sizes = fs::read_to_string(format!("/proc/{pid}/statm"));
    sizes.is_ok_and(|sizes| !sizes.starts_with("0 "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        elf::ProcAddr,
        runtime::{CountSource, QueueEnds},
    };

    fn counted(loops: &[(u64, u64, Option<u64>)]) -> Headcount {
        let loops = loops.iter().map(|(address, active, spawned)| LoopCount {
            address: ProcAddr(*address),
            scheduler: "multi_thread",
            active: *active,
            spawned: *spawned,
            source: CountSource::Counter,
        });
        Headcount {
            time_ns: 0,
            loops: loops.collect(),
            pools: None,
        }
    }

    #[test]
    fn what_came_and_went_is_known_only_of_the_same_loops() {
        let before = counted(&[(1, 10, Some(100)), (2, 5, Some(5))]);
        let after = counted(&[(1, 4, Some(110)), (2, 6, Some(7))]);
        assert_eq!(after.since(&before), Some((12, 17)));
        let other = counted(&[(1, 4, Some(110)), (3, 6, Some(7))]);
        assert_eq!(other.since(&before), None);
        let fewer = counted(&[(1, 4, Some(110))]);
        assert_eq!(fewer.since(&before), None);
        let uncounted = counted(&[(1, 4, None), (2, 6, Some(7))]);
        assert_eq!(uncounted.since(&before), None);
        assert_eq!(after.since(&uncounted), None);
    }

    #[test]
    fn the_first_closure_has_waited_since_the_last_one_was_not_older() {
        let pool = |ends: Option<(u64, u64)>| PoolCount {
            address: ProcAddr(0x1000),
            busy: 1,
            idle: 0,
            queued: 1,
            cap: Some(1),
            ends: ends.map(|(first, last)| QueueEnds { first, last }),
        };
        let mut queues = Queues::default();
        let looks = [
            (100, Some((5, 7)), Some(0)),
            (200, Some((5, 9)), Some(100)),
            // 7 came before 100, 8 between 100 and 200.
            (300, Some((7, 9)), Some(200)),
            (400, Some((8, 12)), Some(200)),
            (500, Some((20, 21)), Some(0)),
            (600, None, None),
            (700, Some((21, 21)), Some(0)),
        ];
        for (time_ns, ends, oldest_ns) in looks {
            let seen = queues.see(&[pool(ends)], time_ns);
            assert_eq!(seen[0].oldest_ns, oldest_ns, "at {time_ns}");
        }
    }

    #[test]
    fn a_process_that_has_ended_has_no_tasks_that_could_be_counted() {
        assert!(lives(std::process::id()));
        assert!(!lives(0));
    }
}
