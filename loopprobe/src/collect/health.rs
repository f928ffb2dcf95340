//! Values over time: what the threads and drivers have done since they were looked at last.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

use loopprobe_common::{
    health::{Driver, Longest},
    thread::Thread,
};

use super::{
    delays::Delays,
    headcount::{Headcount, Seen},
    threads::ThreadNames,
};
use crate::model::{DriverLag, Interval, WakeToPoll, WorkerLoad};

/// Compares each look with the one before, and adds it to the periods that are under way.
#[derive(Debug)]
pub(super) struct Health {
    pid: u32,
    /// The look under way, as the kernel side is told.
    look: u64,
    /// Busy time at the last look, by the kernel's thread id.
    busy_ns: HashMap<u32, u64>,
    /// Time and turns at the last look, by descriptor.
    drivers: HashMap<u32, (u64, u64)>,
    /// Who has polled since that was asked.
    seen: Seen,
}

/// What was seen since a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Period {
    start_ns: u64,
    polls: u64,
    long_polls: u64,
    /// Time in polls and the longest without parking, by thread.
    workers: BTreeMap<u32, (u64, u64)>,
    driver: Option<Lag>,
    tasks: Option<Headcount>,
    /// From wake to poll: at its beginning, where that is wanted, and the longest since.
    delays: Option<Box<Delays>>,
    longest_delay_ns: u64,
}

/// How long nobody turned the drivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lag {
    max_ns: u64,
    total_ns: u64,
    turns: u64,
}

impl Health {
    /// Of a process whose kernel side is at look 0.
    pub(super) fn of(pid: u32) -> Self {
        Self {
            pid,
            look: 0,
            busy_ns: HashMap::new(),
            drivers: HashMap::new(),
            seen: Seen::default(),
        }
    }

    /// A new look begins; what the kernel side is told of it.
    pub(super) fn next_look(&mut self) -> u64 {
        self.look += 1;
        self.look
    }

    /// Adds what has happened since the look before. `threads` and `drivers` have been read after
    /// the new look had begun. Gives the drivers that are gone.
    pub(super) fn see(
        &mut self,
        threads: &[(u32, Thread)],
        drivers: &[(u32, Driver)],
        now: u64,
        periods: &mut [&mut Period],
    ) -> Vec<u32> {
        let over = self.look.saturating_sub(1);
        let mut before = std::mem::take(&mut self.busy_ns);
        for (kernel_tid, thread) in threads {
            let busy_ns = busy(thread, now);
            let since = before.remove(kernel_tid).unwrap_or(0);
            self.busy_ns.insert(*kernel_tid, busy_ns);
            if thread.flags & Thread::POLLED == 0 {
                continue;
            }
            if busy_ns > since {
                self.polled(thread);
            }
            let longest_ns = Longest::since(&thread.longest, over).max(awake(thread, now));
            for period in periods.iter_mut() {
                let worker = period.workers.entry(thread.tid).or_default();
                worker.0 += busy_ns.saturating_sub(since);
                worker.1 = worker.1.max(longest_ns);
            }
        }
        // A thread that has ended is no worker of the interval's end.
        for period in periods.iter_mut() {
            let lives = |tid: &u32| threads.iter().any(|(_, thread)| thread.tid == *tid);
            period.workers.retain(|tid, _| lives(tid));
        }
        self.see_drivers(threads, drivers, now, periods)
    }

    fn polled(&mut self, thread: &Thread) {
        if thread.flags & Thread::LOCAL != 0 {
            self.seen.threads.insert(thread.tid);
        } else if thread.scheduler != 0 {
            self.seen.schedulers.insert(thread.scheduler);
        }
    }

    /// Who has polled since this was asked last.
    pub(super) fn take_seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }

    fn see_drivers(
        &mut self,
        threads: &[(u32, Thread)],
        drivers: &[(u32, Driver)],
        now: u64,
        periods: &mut [&mut Period],
    ) -> Vec<u32> {
        let over = self.look.saturating_sub(1);
        let mut gone = Vec::new();
        let mut before = std::mem::take(&mut self.drivers);
        for (descriptor, driver) in drivers {
            let open_ns = match driver.left_ns {
                0 => 0,
                left_ns => now.saturating_sub(left_ns),
            };
            let has_thread = threads.iter().any(|(_, thread)| thread.tid == driver.tid);
            if open_ns > 0 && !(has_thread && is_epoll(self.pid, *descriptor)) {
                gone.push(*descriptor);
                continue;
            }
            let (total_ns, turns) = before.remove(descriptor).unwrap_or((0, 0));
            self.drivers
                .insert(*descriptor, (driver.total_ns, driver.turns));
            for period in periods.iter_mut() {
                let lag = period.driver.get_or_insert_default();
                lag.max_ns = lag
                    .max_ns
                    .max(Longest::since(&driver.longest, over))
                    .max(open_ns);
                lag.total_ns += driver.total_ns.saturating_sub(total_ns);
                lag.turns += driver.turns.saturating_sub(turns);
            }
        }
        gone
    }
}

/// How long a thread has been in polls in all.
fn busy(thread: &Thread, now: u64) -> u64 {
    let open_ns = match thread.depth {
        0 => 0,
        _ => now.saturating_sub(thread.polls[0].start_ns),
    };
    thread.busy_ns.saturating_add(open_ns)
}

/// How long a thread has gone without parking up to now.
fn awake(thread: &Thread, now: u64) -> u64 {
    match thread.awake_ns {
        0 => 0,
        since_ns => now.saturating_sub(since_ns),
    }
}

/// Whether a descriptor is one that events are waited for with: a runtime that has gone has closed
/// its own.
fn is_epoll(pid: u32, descriptor: u32) -> bool {
    let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}"));
    // Where it may not be read, the thread has to do.
    target.map_or_else(
        |error| error.kind() == std::io::ErrorKind::PermissionDenied,
        |target| target.as_os_str() == "anon_inode:[eventpoll]",
    )
}

impl Period {
    /// Begins now, when so many polls and long polls have been counted, and these tasks live.
    pub(super) fn begin(
        start_ns: u64,
        (polls, long_polls): (u64, u64),
        tasks: Option<Headcount>,
    ) -> Self {
        Self {
            start_ns,
            polls,
            long_polls,
            tasks,
            ..Self::default()
        }
    }

    /// The same, where this has been counted of wakes so far.
    #[must_use]
    pub(super) fn with_delays(self, delays: Option<Box<Delays>>) -> Self {
        Self { delays, ..self }
    }

    /// Adds the longest time from a wake to a poll that a look has found.
    pub(super) fn delayed(&mut self, longest_ns: u64) {
        self.longest_delay_ns = self.longest_delay_ns.max(longest_ns);
    }

    /// How long tasks have waited for their polls since it began.
    pub(super) fn wake_to_poll(&self, now: &Delays) -> Option<WakeToPoll> {
        let before = self.delays.as_ref()?;
        Some(now.since(before, self.longest_delay_ns))
    }

    /// What the values come to, when by now so many polls and long polls have been counted, and
    /// these tasks live.
    pub(super) fn interval(
        &self,
        now: u64,
        (polls, long_polls): (u64, u64),
        tasks: Option<&Headcount>,
        names: &mut ThreadNames,
    ) -> Interval {
        let duration_ns = now.saturating_sub(self.start_ns);
        let share = |ns: u64| {
            // Rounded as far as it is worth printing.
            let share = ns as f64 / duration_ns.max(1) as f64;
            (share.min(1.0) * 1e4).round() / 1e4
        };
        let turnover = tasks.and_then(|tasks| tasks.since(self.tasks.as_ref()?));
        Interval {
            pool: tasks.and_then(Headcount::pool),
            active_tasks: tasks.map(Headcount::active),
            spawned: turnover.map(|(spawned, _)| spawned),
            completed: turnover.map(|(_, completed)| completed),
            time_ns: now,
            duration_ns,
            polls: polls.saturating_sub(self.polls),
            long_polls: long_polls.saturating_sub(self.long_polls),
            workers: self
                .workers
                .iter()
                .map(|(tid, (busy_ns, longest_ns))| WorkerLoad {
                    tid: *tid,
                    thread: names.get(*tid).to_owned(),
                    busy: share(*busy_ns),
                    longest_ns: *longest_ns,
                })
                .collect(),
            driver_lag_ns: self.driver.map(|lag| DriverLag {
                max: lag.max_ns,
                mean: lag.total_ns.checked_div(lag.turns).unwrap_or(lag.max_ns),
            }),
            ..Interval::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn worker(tid: u32, busy_ns: u64) -> (u32, Thread) {
        let thread = Thread {
            tid,
            flags: Thread::SHARED,
            busy_ns,
            ..Thread::default()
        };
        (tid, thread)
    }

    type Look = (Vec<(u32, Thread)>, Vec<(u32, Driver)>);

    fn seen(looks: &[Look]) -> Interval {
        let mut health = Health::of(std::process::id());
        let mut period = Period::begin(0, (0, 0), None);
        for (number, (threads, drivers)) in looks.iter().enumerate() {
            health.next_look();
            let now = (number as u64 + 1) * SECOND / 2;
            health.see(threads, drivers, now, &mut [&mut period]);
        }
        let mut names = ThreadNames::new(std::process::id());
        period.interval(looks.len() as u64 * SECOND / 2, (0, 0), None, &mut names)
    }

    #[test]
    fn an_open_poll_counts_up_to_now_and_once() {
        let mut open = worker(7, 100_000_000);
        open.1.depth = 1;
        open.1.polls[0].start_ns = 100_000_000;
        let ended = worker(7, 900_000_000);
        let interval = seen(&[(vec![open], vec![]), (vec![ended], vec![])]);
        assert_eq!(interval.workers[0].busy, 0.9);
    }

    #[test]
    fn a_thread_that_never_polled_is_no_worker() {
        let mut pool = worker(7, 0);
        pool.1.flags = 0;
        assert!(seen(&[(vec![pool], vec![])]).workers.is_empty());
    }

    #[test]
    fn the_longest_time_awake_is_of_the_look_before_or_goes_on() {
        let mut parked = worker(7, 0);
        Longest::note(&mut parked.1.longest, 0, 5_000);
        let mut awake = worker(8, 0);
        awake.1.awake_ns = SECOND / 2 - 9_000;
        let interval = seen(&[(vec![parked, awake], vec![])]);
        let longest: Vec<u64> = interval.workers.iter().map(|w| w.longest_ns).collect();
        assert_eq!(longest, [5_000, 9_000]);
    }

    #[test]
    fn a_driver_that_was_closed_or_whose_thread_has_ended_lags_no_longer() {
        let driver = Driver {
            left_ns: 1,
            tid: 7,
            ..Driver::default()
        };
        // No descriptor of this process has this number.
        let interval = seen(&[(vec![worker(7, 0)], vec![(999_999, driver)])]);
        assert_eq!(interval.driver_lag_ns, None);
    }

    #[test]
    fn the_mean_is_of_the_times_that_ended() {
        let mut driver = Driver {
            total_ns: 100,
            turns: 10,
            tid: 7,
            ..Driver::default()
        };
        let first = (vec![worker(7, 0)], vec![(3, driver)]);
        driver.total_ns = 400;
        driver.turns = 11;
        Longest::note(&mut driver.longest, 1, 300);
        let interval = seen(&[first, (vec![worker(7, 0)], vec![(3, driver)])]);
        let expected = DriverLag { max: 300, mean: 36 };
        assert_eq!(interval.driver_lag_ns, Some(expected));
    }
}
