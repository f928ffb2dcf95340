//! Permits that were handed to futures which nobody polls, while tasks wait for them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Range,
};

use super::{
    acquire::{Granted, Nodes, Shape, Waiting},
    header::Header,
    layout::Layouts,
    scan,
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

/// All of them. Wakers of idle tasks are looked for in the memory; those that lie in a semaphore's
/// queue lead to the semaphore, and what points to it may be a future that has been given permits.
pub(super) fn unclaimed(
    memory: &Memory,
    layouts: &Layouts,
    ranges: &[Range<ProcAddr>],
    tasks: &[LiveTask],
) -> Vec<Unclaimed> {
    let by_header: HashMap<u64, usize> = tasks.iter().map(|task| task.header.0).zip(0..).collect();
    let queues = queues(memory, ranges, tasks, &by_header);
    let semaphores: HashSet<u64> = queues.keys().copied().collect();
    let pointers = scan::places_of(memory, ranges, &semaphores);
    let found = pointers.into_iter().filter_map(|(at, semaphore)| {
        let queue = queues.get(&semaphore)?;
        let granted = granted(memory, layouts, queue, at)?;
        let woken = by_header.get(&granted.woken).copied();
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
/// was polled without polling this future.
fn granted(memory: &Memory, layouts: &Layouts, queue: &Queue, at: ProcAddr) -> Option<Granted> {
    let granted = queue.shape.granted(memory, at)?;
    let task = Header::read_many(memory, layouts, &[ProcAddr(granted.woken)]);
    let is_idle = task.iter().all(|task| task.state() == TaskState::Idle);
    let is_still = || queue.shape.granted(memory, at) == Some(granted);
    (is_idle && is_still()).then_some(granted)
}

/// The queues in which idle tasks wait, by semaphore.
fn queues(
    memory: &Memory,
    ranges: &[Range<ProcAddr>],
    tasks: &[LiveTask],
    by_header: &HashMap<u64, usize>,
) -> HashMap<u64, Queue> {
    let idle = tasks.iter().filter(|task| task.state == TaskState::Idle);
    let idle: HashSet<u64> = idle.map(|task| task.header.0).collect();
    let mut queues: HashMap<u64, Queue> = HashMap::new();
    let mut walked = 0;
    for (at, header) in scan::places_of(memory, ranges, &idle) {
        for waiting in Waiting::at(memory, at) {
            let semaphore = waiting.semaphore;
            if !queues.contains_key(&semaphore) && walked < MAX_QUEUES {
                walked += 1;
                let nodes = waiting.queue(memory);
                let queue = nodes.filter(|nodes| nodes.all.contains(&waiting.node));
                queues.extend(queue.map(|nodes| {
                    let (shape, tasks) = (waiting.shape, BTreeSet::new());
                    (
                        semaphore,
                        Queue {
                            shape,
                            nodes,
                            tasks,
                        },
                    )
                }));
            }
            if let Some(queue) = queues.get_mut(&semaphore)
                && queue.shape == waiting.shape
                && queue.nodes.all.contains(&waiting.node)
            {
                queue.tasks.extend(by_header.get(&header));
            }
        }
    }
    queues
}

fn is_inside(task: &LiveTask, at: ProcAddr) -> bool {
    let offset = at.0.checked_sub(task.header.0);
    offset.is_some_and(|offset| offset < task.served.size.into())
}
