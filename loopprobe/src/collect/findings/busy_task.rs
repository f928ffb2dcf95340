//! A task that is polled again and again without end.
//!
//! The kernel side counts the polls of one task apart, by its header's address. Which one is worth
//! it is guessed from whose polls are seen at several looks in a row on threads that do not park.
//! Another task may get the same address, but no other gets the same id.

use loopprobe_common::thread::Thread;

/// How long a task is watched before anything is said of it.
pub(crate) const WATCHED_NS: u64 = 1_000_000_000;

/// At how many of the last looks a task must be seen.
const SEEN_AT: usize = 3;

/// How many looks are remembered.
const LOOKS: usize = 4;

/// A thread that has not parked for so long waits for nothing between polls. It may have to park
/// later: another worker takes the task over while this one has lost its CPU.
const RESTLESS_NS: u64 = 50_000_000;

/// A task that is polled fewer times a second does something in its polls: they, or what wakes it,
/// are worth looking at, not their number.
const LEAST_A_SECOND: u64 = 1_000;

/// How much of the polls, or of the time, of the threads that do not park a task must have.
const LEAST_SHARE: f64 = 0.5;

/// Which task is watched.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The headers seen at the last looks.
    seen: Vec<Vec<u64>>,
    watched: Option<Watched>,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    header: u64,
    task_id: u64,
    /// What had been counted when it began.
    base: Counts,
    since_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Polls of the task, and their time.
    turns: u64,
    ns: u64,
    /// Polls of all tasks.
    all: u64,
}

impl Counts {
    fn of(threads: &[(u32, Thread)]) -> Self {
        let mut counts = Self::default();
        for (_, thread) in threads {
            counts.turns += thread.watched_turns;
            counts.ns += thread.watched_ns;
            counts.all += thread.turns;
        }
        counts
    }
}

/// A task that was watched for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Busy {
    /// Its header.
    pub header: u64,
    /// Its id.
    pub task_id: u64,
    /// Since when it was watched.
    pub since_ns: u64,
    /// Polls a second.
    pub a_second: u64,
    /// How much of one thread's time its polls took.
    pub share: f64,
}

impl Watch {
    /// The header that the kernel side is to count apart; 0 for none.
    pub(crate) fn header(&self) -> u64 {
        self.watched.map_or(0, |watched| watched.header)
    }

    /// Looks at the threads. `id_of` reads the id of the task with a header now. Gives a task that
    /// is polled without end, and whether the kernel side has to be told of another header.
    pub(crate) fn look(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        threshold_ns: u64,
        id_of: impl Fn(u64) -> Option<u64>,
    ) -> (Option<Busy>, bool) {
        self.remember(threads, now);
        let Some(watched) = self.watched else {
            self.choose(threads, now, id_of);
            return (None, self.watched.is_some());
        };
        if now.saturating_sub(watched.since_ns) < WATCHED_NS {
            return (None, false);
        }
        let busy = busy(&watched, threads, now, threshold_ns)
            .filter(|_| self.times(watched.header) >= SEEN_AT)
            // The same task all the time: no other ever gets its id.
            .filter(|_| id_of(watched.header) == Some(watched.task_id));
        match busy {
            Some(_) => {
                let base = Counts::of(threads);
                self.watched = Some(Watched {
                    base,
                    since_ns: now,
                    ..watched
                });
            }
            None => self.watched = None,
        }
        (busy, busy.is_none())
    }

    fn remember(&mut self, threads: &[(u32, Thread)], now: u64) {
        let headers = restless(threads, now).map(|thread| thread.polls[0].header);
        self.seen.push(headers.collect());
        if self.seen.len() > LOOKS {
            self.seen.remove(0);
        }
    }

    /// At how many of the last looks a task was seen.
    fn times(&self, header: u64) -> usize {
        let looks = self.seen.iter();
        looks.filter(|headers| headers.contains(&header)).count()
    }

    fn choose(&mut self, threads: &[(u32, Thread)], now: u64, id_of: impl Fn(u64) -> Option<u64>) {
        let last = self.seen.last();
        let often = last
            .into_iter()
            .flatten()
            .find(|header| self.times(**header) >= SEEN_AT);
        if let Some(header) = often.copied()
            && let Some(task_id) = id_of(header)
        {
            self.watched = Some(Watched {
                header,
                task_id,
                base: Counts::of(threads),
                since_ns: now,
            });
        }
    }
}

/// Threads that poll tasks and have not parked for a while.
fn restless(threads: &[(u32, Thread)], now: u64) -> impl Iterator<Item = &Thread> {
    let threads = threads.iter().map(|(_, thread)| thread);
    threads.filter(move |thread| {
        thread.flags & Thread::POLLED != 0
            && thread.awake_ns != 0
            && now.saturating_sub(thread.awake_ns) >= RESTLESS_NS
    })
}

fn busy(watched: &Watched, threads: &[(u32, Thread)], now: u64, threshold_ns: u64) -> Option<Busy> {
    let elapsed_ns = now.saturating_sub(watched.since_ns).max(1);
    let counts = Counts::of(threads);
    let turns = counts.turns.saturating_sub(watched.base.turns);
    let ns = counts.ns.saturating_sub(watched.base.ns);
    let all = counts.all.saturating_sub(watched.base.all).max(1);
    let a_second = (u128::from(turns) * 1_000_000_000 / u128::from(elapsed_ns)) as u64;
    let share = ns as f64 / elapsed_ns as f64;
    let is_most = share >= LEAST_SHARE || turns as f64 / all as f64 >= LEAST_SHARE;
    let is_short = ns / turns.max(1) < threshold_ns / 2;
    (a_second >= LEAST_A_SECOND && is_most && is_short).then_some(Busy {
        header: watched.header,
        task_id: watched.task_id,
        since_ns: watched.since_ns,
        a_second,
        share: (share * 100.0).round() / 100.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 250_000_000;
    const THRESHOLD: u64 = 10_000_000;

    /// A thread that has polled so many times since its start, and parked last at `awake_ns`.
    fn thread(header: u64, turns: u64, awake_ns: u64) -> Vec<(u32, Thread)> {
        let mut thread = Thread {
            flags: Thread::SHARED,
            turns,
            watched_turns: turns,
            watched_ns: turns * 1_000,
            awake_ns,
            ..Thread::default()
        };
        thread.polls[0].header = header;
        vec![(1, thread)]
    }

    /// What is found over twelve looks of a thread, by the number of the look.
    fn found(a_look: u64, awake_ns: impl Fn(u64) -> u64, id: impl Fn(u64) -> u64) -> Vec<Busy> {
        let mut watch = Watch::default();
        let looks = (1..=12).filter_map(|look| {
            let now = 1_000_000_000 + look * TICK;
            let threads = thread(0x1000, look * a_look, awake_ns(now));
            let id_of = |_| Some(id(look));
            watch.look(&threads, now, THRESHOLD, id_of).0
        });
        looks.collect()
    }

    #[test]
    fn a_task_that_never_lets_its_thread_park_is_busy() {
        let found = found(25_000, |_| 1, |_| 7);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].task_id, found[0].a_second, found[0].share),
            (7, 100_000, 0.1)
        );
    }

    #[test]
    fn where_the_thread_parks_or_another_task_has_the_address_nothing_is_said() {
        assert!(found(25_000, |now| now - 1_000, |_| 7).is_empty());
        assert!(found(25_000, |_| 1, |look| look).is_empty());
    }

    #[test]
    fn few_polls_are_not_without_end() {
        assert!(found(100, |_| 1, |_| 7).is_empty());
    }
}
