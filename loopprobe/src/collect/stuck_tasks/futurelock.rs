//! Locks that were handed to futures which are not polled any more.

use std::collections::{HashMap, HashSet};

use super::{MOST_IDS, awaits};
use crate::{
    elf::ProcAddr,
    inventory::Census,
    model::Awaited,
    runtime::{TaskState, Unclaimed},
};

/// A lock that a future was handed and does not take, while others wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Futurelock {
    /// The type of the task that polled the future last, if that is known.
    pub task: Option<String>,
    /// Its id.
    pub id: Option<u64>,
    /// What it awaits, outermost first, as far as that is known.
    pub awaits: Vec<Awaited>,
    /// How many futures wait for the lock.
    pub waiting: u64,
    /// The ids of tasks that poll these, some of them.
    pub ids: Vec<u64>,
    /// Since when it has been seen so (`CLOCK_MONOTONIC`, nanoseconds).
    pub since_ns: u64,
}

/// Which future, of which lock and task, and who is next: while a lock is handed on, that changes.
type Key = (ProcAddr, ProcAddr, Option<u64>, ProcAddr);

/// Which were so at the last look, since when, and whether that has been told.
#[derive(Debug, Default)]
pub(super) struct Locks(HashMap<Key, (u64, bool)>);

impl Locks {
    /// What has to be told after this look.
    pub(super) fn look(&mut self, census: &Census, now_ns: u64, least_ns: u64) -> Vec<Futurelock> {
        let mut before = std::mem::take(&mut self.0);
        let mut found = Vec::new();
        // A move leaves a copy of a future behind, of which no task is known.
        let of_tasks = census.unclaimed.iter().filter(|other| other.task.is_some());
        let known: HashSet<ProcAddr> = of_tasks.map(|other| other.semaphore).collect();
        let is_copy = |other: &Unclaimed| other.task.is_none() && known.contains(&other.semaphore);
        for unclaimed in census.unclaimed.iter().filter(|other| !is_copy(other)) {
            let task = unclaimed.task.map(|index| &census.tasks[index]);
            // It is about to be polled, and then takes what it was handed.
            if task.is_some_and(|task| task.state != TaskState::Idle) {
                continue;
            }
            let id = task.and_then(|task| task.id);
            let key = (unclaimed.future, unclaimed.semaphore, id, unclaimed.oldest);
            let (since_ns, mut told) = before.remove(&key).unwrap_or((now_ns, false));
            if !told && now_ns.saturating_sub(since_ns) >= least_ns {
                told = true;
                found.push(futurelock(census, unclaimed, since_ns));
            }
            self.0.insert(key, (since_ns, told));
        }
        found
    }
}

fn futurelock(census: &Census, unclaimed: &Unclaimed, since_ns: u64) -> Futurelock {
    let task = unclaimed.task.map(|index| &census.tasks[index]);
    let name = task.map(|task| census.types[task.kind].name.clone());
    let mut ids: Vec<u64> = unclaimed
        .waiting
        .iter()
        .filter_map(|index| census.tasks[*index].id)
        .collect();
    // Its own first: that it waits for itself is the worst.
    let own = task.and_then(|task| task.id);
    ids.sort_by_key(|id| (Some(*id) != own, *id));
    ids.truncate(MOST_IDS);
    Futurelock {
        awaits: task
            .zip(name.as_deref())
            .map_or_else(Vec::new, |(task, name)| awaits(task, name)),
        task: name,
        id: own,
        waiting: unclaimed.queue,
        ids,
        since_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inventory::{At, Task},
        model::TaskType,
    };

    fn census(state: TaskState) -> Census {
        let task = |id| Task {
            id: Some(id),
            kind: 0,
            state,
            of_loop: None,
            at: At::Await(2),
            chain: None,
            no_waker: false,
        };
        Census {
            types: vec![TaskType::unknown(0)],
            tasks: vec![task(7), task(8), task(9)],
            unclaimed: vec![Unclaimed {
                semaphore: ProcAddr(1),
                future: ProcAddr(2),
                task: Some(1),
                oldest: ProcAddr(3),
                queue: 3,
                waiting: vec![0, 1],
            }],
            ..Census::default()
        }
    }

    #[test]
    fn what_a_move_has_left_of_a_future_is_not_told_beside_it() {
        let mut locks = Locks::default();
        let mut idle = census(TaskState::Idle);
        idle.unclaimed.push(Unclaimed {
            future: ProcAddr(9),
            task: None,
            ..idle.unclaimed[0].clone()
        });
        locks.look(&idle, 100, 50);
        let found = locks.look(&idle, 200, 50);
        assert_eq!(
            found.iter().map(|lock| lock.id).collect::<Vec<_>>(),
            [Some(8)]
        );
        // Of another lock it may be a root future's.
        idle.unclaimed[1].semaphore = ProcAddr(5);
        locks.look(&idle, 300, 50);
        let found = locks.look(&idle, 400, 50);
        assert_eq!(found.iter().map(|lock| lock.id).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn a_lock_is_told_of_once_when_nobody_has_taken_it_for_long() {
        let mut locks = Locks::default();
        let idle = census(TaskState::Idle);
        assert_eq!(locks.look(&idle, 100, 50), []);
        // Its task was polled meanwhile, so it begins anew.
        assert_eq!(locks.look(&census(TaskState::Running), 120, 50), []);
        assert_eq!(locks.look(&idle, 130, 50), []);
        // Another one waits by now: the lock was handed on meanwhile.
        let mut later = census(TaskState::Idle);
        later.unclaimed[0].oldest = ProcAddr(4);
        assert_eq!(locks.look(&later, 190, 50), []);
        assert_eq!(locks.look(&idle, 150, 50), []);
        let found = locks.look(&idle, 200, 50);
        assert_eq!(found.len(), 1);
        let found = &found[0];
        assert_eq!((found.id, found.waiting, found.since_ns), (Some(8), 3, 150));
        assert_eq!(found.ids, [8, 7]);
        assert_eq!(locks.look(&idle, 300, 50), []);
    }
}
