//! Permits that were handed to futures which nobody polls, while tasks wait for them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Range,
};

use super::{
    acquire::{Granted, Nodes, Shape, Waiting},
    around::Around,
    header::Header,
    layout::Layouts,
    scan,
    sets::{self, Sets},
    vtables::Vtables,
};
use crate::{
    elf::ProcAddr,
    process::Memory,
    runtime::{LiveTask, TaskState, Unclaimed},
};

/// Queues that are walked along at most: what is left of wakers may look like some.
const MAX_QUEUES: usize = 4096;

/// The queue of a semaphore.
struct Queue {
    shape: Shape,
    nodes: Nodes,
    /// The tasks in it that are known, as indices.
    tasks: BTreeSet<usize>,
}

/// What is searched.
pub(super) struct Searched<'a> {
    /// The process's memory.
    pub memory: &'a Memory,
    /// What of it may be read.
    pub ranges: &'a [Range<ProcAddr>],
    /// Where there are vtables of wakers.
    pub vtables: Vtables,
    /// The types of tasks.
    pub layouts: &'a Layouts,
    /// The tasks.
    pub tasks: &'a [LiveTask],
}

/// All of them. Wakers of idle tasks are looked for in the memory; those that lie in a semaphore's
/// queue lead to the semaphore, and what points to it may be a future that has been given permits.
/// Those that lie in a set of futures lead to its members, whose wakers are looked for as well.
pub(super) fn unclaimed(searched: &Searched<'_>) -> Vec<Unclaimed> {
    let tasks = searched.tasks;
    let by_header: HashMap<u64, usize> = tasks.iter().map(|task| task.header.0).zip(0..).collect();
    let waits = Waits::find(searched, &by_header);
    let semaphores: HashSet<u64> = waits.queues.keys().copied().collect();
    let pointers = scan::places_of(searched.memory, searched.ranges, &semaphores);
    let found = pointers.into_iter().filter_map(|(at, semaphore)| {
        let queue = waits.queues.get(&semaphore)?;
        let granted = granted(searched, &waits, queue, at)?;
        let woken = waits.sets.woken_by(granted.woken);
        let woken = woken.and_then(|woken| by_header.get(&woken).copied());
        let holder = tasks.iter().position(|task| is_inside(task, granted.at));
        Some(Unclaimed {
            semaphore: ProcAddr(semaphore),
            future: granted.at,
            // Where it lies in another task than the one that was woken, one of the two is wrong.
            task: woken.filter(|woken| holder.is_none_or(|holder| holder == *woken)),
            oldest: ProcAddr(queue.nodes.oldest),
            queue: queue.nodes.all.len() as u64,
            waiting: queue.tasks.iter().copied().collect(),
        })
    });
    found.collect()
}

/// The future whose pointer to its semaphore is at a place, if it was given its permits and its
/// task is not about to take them: a task is woken for them at once, and is idle again only if it
/// was polled without polling this future. In a set of futures it is among those that were woken.
fn granted(searched: &Searched<'_>, waits: &Waits, queue: &Queue, at: ProcAddr) -> Option<Granted> {
    let memory = searched.memory;
    let granted = queue.shape.granted(memory, at)?;
    let woken = waits.sets.woken_by(granted.woken).map(ProcAddr);
    let task = Header::read_many(memory, searched.layouts, woken.as_slice());
    let is_idle = task.iter().all(|task| task.state() == TaskState::Idle);
    let is_still = || queue.shape.granted(memory, at) == Some(granted);
    (is_idle && waits.sets.is_woken(memory, granted.woken) && is_still()).then_some(granted)
}

/// In what idle tasks wait.
#[derive(Default)]
struct Waits {
    /// The queues, by semaphore.
    queues: HashMap<u64, Queue>,
    /// How many were walked along.
    walked: usize,
    /// The sets of futures that tasks poll.
    sets: Sets,
}

impl Waits {
    fn find(searched: &Searched<'_>, by_header: &HashMap<u64, usize>) -> Self {
        let tasks = searched.tasks.iter();
        let idle = tasks.filter(|task| task.state == TaskState::Idle);
        let mut wakers: HashSet<u64> = idle.map(|task| task.header.0).collect();
        let mut waits = Self::default();
        // Nothing is looked for where there is nobody.
        for _ in 0..=sets::MAX_DEPTH {
            let places = scan::places_of(searched.memory, searched.ranges, &wakers);
            for (at, waker) in places {
                let Some(around) = Around::read(searched.memory, at) else {
                    continue;
                };
                waits.sets.see(searched.memory, &searched.vtables, &around);
                let task = waits.sets.woken_by(waker);
                let task = task.and_then(|woken| by_header.get(&woken).copied());
                waits.see(searched, &around, task);
            }
            wakers = waits.sets.seek_members(searched.memory, searched.ranges);
        }
        waits
    }

    /// Looks for a queue in which a future waits with the waker whose data is at a place, and which
    /// that task polls.
    fn see(&mut self, searched: &Searched<'_>, around: &Around, task: Option<usize>) {
        for waiting in Waiting::at(around) {
            let semaphore = waiting.semaphore;
            if !searched.vtables.is_one(waiting.vtable) {
                continue;
            }
            if !self.queues.contains_key(&semaphore) && self.walked < MAX_QUEUES {
                self.walked += 1;
                let nodes = waiting.queue(searched.memory);
                let queue = nodes.filter(|nodes| nodes.all.contains(&waiting.node));
                self.queues.extend(queue.map(|nodes| {
                    let (shape, tasks) = (waiting.shape, BTreeSet::new());
                    let queue = Queue {
                        shape,
                        nodes,
                        tasks,
                    };
                    (semaphore, queue)
                }));
            }
            if let Some(queue) = self.queues.get_mut(&semaphore)
                && queue.shape == waiting.shape
                && queue.nodes.all.contains(&waiting.node)
            {
                queue.tasks.extend(task);
            }
        }
    }
}

fn is_inside(task: &LiveTask, at: ProcAddr) -> bool {
    let offset = at.0.checked_sub(task.header.0);
    offset.is_some_and(|offset| offset < task.served.size.into())
}
