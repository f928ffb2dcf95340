//! Tasks that nothing can wake any more, locks that nobody takes, types of tasks that only become
//! more, and tasks that live for long, found by looking at all live tasks now and then, in a thread
//! of its own.
//!
//! A task that waits and of which nobody holds a waker stays as it is: who sees it so twice knows
//! that it has not been polled in between.

mod futurelock;
mod growing;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    thread,
    time::{Duration, Instant},
};

pub(super) use futurelock::Futurelock;
use futurelock::Locks;
pub(super) use growing::Growing;
use growing::Growth;

use super::debug_files::GivenDebugFiles;
use crate::{
    cache::Cache,
    clock::{nanoseconds, now_ns},
    inventory::{At, Census, Inventory, Task},
    model::{Awaited, TaskKind},
    runtime::{Runtimes, TaskState},
};

/// Looks in the shortest time after which a task is told of.
const LOOKS: u32 = 3;
/// Looks take at most one part in this of the time.
const SHARE: u32 = 50;
/// Ids of one finding.
const MOST_IDS: usize = 5;

/// Tasks of one type, at one await.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StuckTasks {
    /// The type's name.
    pub task: String,
    /// The ids of some of them, those that were seen first.
    pub ids: Vec<u64>,
    /// How many there are.
    pub count: u64,
    /// Since when the first of them has been seen so (`CLOCK_MONOTONIC`, nanoseconds).
    pub since_ns: u64,
    /// What they await, outermost first, as far as that is known.
    pub awaits: Vec<Awaited>,
}

/// Which tasks are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that nothing can wake, locks that nobody takes, and types that only become more.
    Stuck,
    /// All that live for long.
    Slow,
}

impl Which {
    fn concerns(self, task: &Task) -> bool {
        match self {
            Which::Stuck => task.no_waker,
            Which::Slow => task.state != TaskState::Complete,
        }
    }

    /// What tasks of a type have in common to be told of together: those that are slow go from one
    /// await to the next.
    fn common(self, task: &Task) -> At {
        match self {
            Which::Stuck => task.at,
            Which::Slow => At::Unknown,
        }
    }
}

/// What a look finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Tasks that nothing can wake.
    Stuck(StuckTasks),
    /// Tasks that live for long, of one type.
    Slow(StuckTasks),
    /// A type whose live tasks only become more.
    Growing(Growing),
    /// A lock that was handed to a future which does not take it.
    Futurelock(Futurelock),
    /// Why nothing can be found.
    Nothing(String),
}

/// What to look for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The process.
    pub pid: u32,
    /// The runtimes that are known.
    pub runtimes: Runtimes,
    /// Which tasks.
    pub which: Which,
    /// Tasks that stay so for less are not told of.
    pub least: Duration,
    /// Whether files are remembered.
    pub cache: Cache,
    /// Separate debug files.
    pub debug_files: Vec<PathBuf>,
}

/// The thread that looks. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct StuckWatch {
    /// Which tasks it looks for.
    pub which: Which,
    found: Receiver<Found>,
    _end: Sender<()>,
}

impl StuckWatch {
    /// Begins. Nothing is found if there is no thread left.
    pub(super) fn begin(wanted: Wanted) -> Self {
        let (tell, found) = sync_channel(64);
        let (end, ended) = channel();
        let which = wanted.which;
        let thread = thread::Builder::new().name("loopprobe-stuck".into());
        let _ = thread.spawn(move || watch(&wanted, &tell, &ended));
        Self {
            which,
            found,
            _end: end,
        }
    }

    /// What has been found since the last call.
    pub(super) fn take(&self) -> Vec<Found> {
        self.found.try_iter().collect()
    }
}

fn watch(wanted: &Wanted, tell: &SyncSender<Found>, ended: &Receiver<()>) {
    let mut debug_files = GivenDebugFiles::new(&wanted.debug_files);
    let inventory = Inventory::of(wanted.runtimes, wanted.pid, wanted.cache, &mut |image| {
        debug_files.of(image)
    });
    let mut inventory = match inventory {
        Ok(inventory) => inventory,
        Err(error) => {
            let _ = tell.send(Found::Nothing(error.to_string()));
            return;
        }
    };
    if wanted.which == Which::Stuck {
        inventory.seek_unclaimed();
    }
    let mut seen = Seen::of(wanted.which);
    let (mut growth, mut locks) = (Growth::default(), Locks::default());
    loop {
        let begun = Instant::now();
        let Ok(census) = inventory.take() else {
            return;
        };
        let now = now_ns();
        let least_ns = nanoseconds(wanted.least);
        let told = seen.look(&census, now, least_ns);
        let found: Vec<Found> = match wanted.which {
            Which::Slow => told.into_iter().map(Found::Slow).collect(),
            Which::Stuck => {
                let growing = growth.look(&census, now, least_ns).into_iter();
                let growing = growing.map(Found::Growing);
                let locks = locks.look(&census, now, least_ns).into_iter();
                let told = told.into_iter().map(Found::Stuck).chain(growing);
                told.chain(locks.map(Found::Futurelock)).collect()
            }
        };
        for found in found {
            if tell.send(found).is_err() {
                return;
            }
        }
        let pause = (wanted.least / LOOKS).max(begun.elapsed() * SHARE);
        if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Which tasks were so at the last look.
#[derive(Debug)]
struct Seen {
    which: Which,
    /// By id, since when.
    since_ns: HashMap<u64, u64>,
    /// By type and await, how many have been told of.
    told: HashMap<(String, At), u64>,
}

impl Seen {
    fn of(which: Which) -> Self {
        Self {
            which,
            since_ns: HashMap::new(),
            told: HashMap::new(),
        }
    }

    /// What has to be told after this look.
    fn look(&mut self, census: &Census, now_ns: u64, least_ns: u64) -> Vec<StuckTasks> {
        let before = std::mem::take(&mut self.since_ns);
        let which = self.which;
        // A type of each scheduler has the same name.
        let mut groups: HashMap<(&str, At), Vec<(u64, &Task)>> = HashMap::new();
        for task in census.tasks.iter().filter(|task| which.concerns(task)) {
            let Some(id) = task.id else { continue };
            let since_ns = before.get(&id).copied().unwrap_or(now_ns);
            self.since_ns.insert(id, since_ns);
            let own = &census.types[task.kind];
            let is_async = own.kind == TaskKind::Async;
            if is_async && now_ns.saturating_sub(since_ns) >= least_ns {
                let group = groups
                    .entry((own.name.as_str(), which.common(task)))
                    .or_default();
                group.push((since_ns, task));
            }
        }
        let groups = groups.into_iter().filter_map(|((name, at), mut tasks)| {
            tasks.sort_by_key(|(since_ns, task)| (*since_ns, task.id));
            let count = tasks.len() as u64;
            // Said again only if it is much worse.
            let told = self.told.entry((name.to_owned(), at)).or_default();
            if count < told.saturating_mul(2).max(1) {
                return None;
            }
            *told = count;
            let (since_ns, first) = tasks.first()?;
            let ids = tasks.iter().filter_map(|(_, task)| task.id);
            Some(StuckTasks {
                awaits: awaits(first, name),
                task: name.to_owned(),
                ids: ids.take(MOST_IDS).collect(),
                count,
                since_ns: *since_ns,
            })
        });
        let mut found: Vec<_> = groups.collect();
        found.sort_by(|a, b| (b.count, &a.task).cmp(&(a.count, &b.task)));
        found
    }
}

fn awaits(task: &Task, name: &str) -> Vec<Awaited> {
    let number = match task.at {
        At::Await(number) => Some(number),
        At::Beginning | At::Unknown => None,
    };
    let own = || Awaited {
        function: name.to_owned(),
        number,
        location: None,
    };
    let Some(chain) = &task.chain else {
        return number.map(|_| own()).into_iter().collect();
    };
    let points = chain.iter().enumerate().map(|(index, point)| Awaited {
        function: point.function.clone(),
        number: number.filter(|_| index == 0),
        location: point.location.clone(),
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TaskType;

    fn census(tasks: &[(u64, bool)]) -> Census {
        let tasks = tasks.iter().map(|(id, no_waker)| Task {
            id: Some(*id),
            kind: 0,
            state: TaskState::Idle,
            of_loop: None,
            at: At::Await(2),
            chain: None,
            no_waker: *no_waker,
        });
        Census {
            types: vec![TaskType::unknown(0)],
            tasks: tasks.collect(),
            ..Census::default()
        }
    }

    #[test]
    fn a_task_is_told_of_once_it_has_stayed_so_for_long() {
        let mut seen = Seen::of(Which::Stuck);
        let first = census(&[(1, true), (2, true), (3, false)]);
        assert!(seen.look(&first, 100, 50).is_empty());
        // 2 could be woken meanwhile, and begins anew.
        assert!(
            seen.look(&census(&[(1, true), (2, false)]), 120, 50)
                .is_empty()
        );
        let found = seen.look(&first, 150, 50);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].ids.as_slice(), found[0].since_ns),
            (&[1][..], 100)
        );
        assert_eq!(found[0].awaits[0].number, Some(2));
        // No more of them: it has been said.
        assert!(seen.look(&first, 160, 50).is_empty());
        // Twice as many.
        let found = seen.look(&first, 200, 50);
        assert_eq!((found.len(), found[0].count), (1, 2));
    }

    #[test]
    fn a_task_is_slow_only_if_it_is_the_same_all_the_time() {
        let mut seen = Seen::of(Which::Slow);
        assert!(
            seen.look(&census(&[(1, false), (2, false)]), 100, 50)
                .is_empty()
        );
        let found = seen.look(&census(&[(1, false), (3, false)]), 150, 50);
        assert_eq!((found[0].count, found[0].ids.as_slice()), (1, &[1][..]));
        // 3 has lived for as long by now, and there are twice as many.
        let found = seen.look(&census(&[(1, false), (3, false)]), 200, 50);
        assert_eq!((found[0].count, found[0].since_ns), (2, 100));
        let mut ended = census(&[(1, false)]);
        ended.tasks[0].state = TaskState::Complete;
        let mut seen = Seen::of(Which::Slow);
        assert!(seen.look(&ended, 100, 50).is_empty());
        assert!(seen.look(&ended, 200, 50).is_empty());
    }
}
