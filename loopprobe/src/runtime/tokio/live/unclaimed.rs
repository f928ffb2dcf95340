//! Permits that were handed to futures which nobody polls, while tasks wait for them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::Range,
};

use super::{
    acquire::{Shape, Waiting},
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
    nodes: HashSet<u64>,
    /// The tasks in it that are known, as indices.
    tasks: BTreeSet<usize>,
}

/// All of them. Wakers of idle tasks are looked for in the memory; those that lie in a semaphore's
/// queue lead to the semaphore, and what points to it may be a future that has been given permits.
pub(super) fn unclaimed(
    memory: &Memory,
    ranges: &[Range<ProcAddr>],
    tasks: &[LiveTask],
) -> Vec<Unclaimed> {
    let by_header: HashMap<u64, usize> = tasks.iter().map(|task| task.header.0).zip(0..).collect();
    let queues = queues(memory, ranges, tasks, &by_header);
    let semaphores: HashSet<u64> = queues.keys().copied().collect();
    let pointers = scan::places_of(memory, ranges, &semaphores);
    let found = pointers.into_iter().filter_map(|(at, semaphore)| {
        let queue = queues.get(&semaphore)?;
        let granted = queue.shape.granted(memory, at)?;
        let woken = by_header.get(&granted.woken).copied();
        let holder = tasks.iter().position(|task| is_inside(task, granted.at));
        Some(Unclaimed {
            semaphore: ProcAddr(semaphore),
            future: granted.at,
            // Where it lies in another task than the one that was woken, one of the two is wrong.
            task: woken.filter(|woken| holder.is_none_or(|holder| holder == *woken)),
            queue: queue.nodes.len() as u64,
            waiting: queue.tasks.iter().copied().collect(),
        })
    });
    found.collect()
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
                let queue = nodes.filter(|nodes| nodes.contains(&waiting.node));
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
                && queue.nodes.contains(&waiting.node)
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
