//! How many tasks live, read from the process's memory in a thread of its own: a search of the
//! memory may take seconds.

mod counter;
mod queues;

use std::{
    collections::BTreeSet,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use counter::Counter;

use crate::{
    clock::now_ns,
    model::Pool,
    runtime::{LoopCount, MappedImage, PoolCount, PoolState, Runtimes},
};

/// How long an answer is waited for. Where the runtime counts its tasks it takes some microseconds.
const PATIENCE: Duration = Duration::from_millis(5);
/// An answer is used for so long at least, where a later one takes longer.
const LEAST_FRESH_NS: u64 = 1_000_000_000;

/// Who polled since the last question: a loop that is not among those known has to be searched for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
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
pub(super) struct Headcount {
    /// When (`CLOCK_MONOTONIC`, nanoseconds).
    pub time_ns: u64,
    /// The loops.
    pub loops: Vec<LoopCount>,
    /// Their blocking pools, if those are known.
    pub pools: Option<Vec<PoolNow>>,
}

/// A blocking pool at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PoolNow {
    /// Its threads and closures.
    pub count: PoolCount,
    /// For how long the first closure of the queue has waited at least, if one waits.
    pub oldest_ns: Option<u64>,
}

impl Headcount {
    /// All pools together, but for those whose runtime ends. `None` if there are none.
    pub(super) fn pool(&self) -> Option<Pool> {
        let is_open = |pool: &&PoolNow| pool.count.state == PoolState::Open;
        let pools: Vec<_> = self.pools.as_ref()?.iter().filter(is_open).collect();
        (!pools.is_empty()).then_some(())?;
        let sum = |of: fn(&PoolCount) -> u64| pools.iter().map(|pool| of(&pool.count)).sum();
        Some(Pool {
            busy: sum(|pool| pool.busy),
            idle: Some(sum(|pool| pool.idle)),
            queued: Some(sum(|pool| pool.queued)),
            cap: pools.iter().map(|pool| pool.count.cap).sum(),
            oldest_ns: pools.iter().filter_map(|pool| pool.oldest_ns).max(),
        })
    }

    /// Whether no closure waits for a thread of a pool.
    fn is_quiet(&self) -> bool {
        let mut pools = self.pools.iter().flatten();
        pools.all(|pool| pool.count.queued == 0)
    }

    /// Tasks that are alive.
    pub(super) fn active(&self) -> u64 {
        self.loops.iter().map(|count| count.active).sum()
    }

    /// Tasks spawned and completed since an earlier moment. `None` if a loop does not count what it
    /// spawns, or if loops have come or gone meanwhile: what they had spawned before is not known.
    pub(super) fn since(&self, earlier: &Self) -> Option<(u64, u64)> {
        if self.loops.len() != earlier.loops.len() {
            return None;
        }
        let spawned = self.loops.iter().map(|count| {
            let of = |count: &LoopCount| (count.address, count.number);
            let same = |other: &&LoopCount| of(other) == of(count);
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
pub(super) struct Headcounts {
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
    pub(super) fn of(runtimes: Runtimes, pid: u32) -> Self {
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
    pub(super) fn forget(&mut self) {
        self.images = None;
        self.last = None;
    }

    /// Somebody polled.
    pub(super) fn see(&mut self, seen: Seen) {
        self.seen.add(seen);
    }

    /// How many tasks live now, as far as it is known; not older than `most_ns`, or than a second
    /// if that is longer. Takes milliseconds at most. `images` is all files that the process has
    /// mapped. Unless the answer is told (`is_told`), one of the last second will do where no
    /// closure waits: to ask costs both processes something.
    pub(super) fn take(
        &mut self,
        images: &[MappedImage],
        most_ns: u64,
        is_told: bool,
    ) -> Option<Headcount> {
        self.receive();
        if let Some(last) = self.last.as_ref().filter(|_| !is_told)
            && last.is_quiet()
            && now_ns().saturating_sub(last.time_ns) < LEAST_FRESH_NS
        {
            return Some(last.clone());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{elf::ProcAddr, runtime::CountSource};

    fn counted(loops: &[(u64, u64, Option<u64>)]) -> Headcount {
        let loops = loops.iter().map(|(number, active, spawned)| LoopCount {
            address: ProcAddr(0x1000),
            number: *number,
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
}
