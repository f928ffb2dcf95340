//! Tokio's live tasks, read from the memory of a process that runs meanwhile.
//!
//! Each async task is a member of the list of its runtime or `LocalSet`, the owner
//! (`tokio/src/runtime/task/list.rs`). A scan of the memory finds headers of tasks, by their
//! vtables; each leads to its scheduler, and the owner's list lies there. The lists are what is
//! told: a header alone may be a copy, or what is left of a task that has ended.

mod acquire;
mod around;
mod future_set;
mod header;
mod layout;
mod owner;
mod pool;
mod scan;
mod sets;
mod threads;
mod unclaimed;
mod vtables;
mod walk;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use header::Header;
use layout::Layouts;
use owner::Owner;
use walk::{Node, Walk};

use crate::{
    elf::ProcAddr,
    process::{Memory, ProcessError, resident},
    runtime::{
        CountSource, LiveLoop, LiveTask, LiveTasks, LoopCount, MappedImage, PoolCount, Searched,
        TaskFinder, TaskState, Unclaimed, tokio::scheduler::Scheduler,
    },
};

/// Owners that are looked at: a program has one for each runtime and `LocalSet`.
const MAX_OWNERS: usize = 4096;
/// Headers that are tried for each owner.
const MAX_TRIES: usize = 8;
/// How long lists are walked at most: a million tasks take about two seconds.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Finds the live tasks of a process.
#[derive(Debug)]
pub(super) struct Finder {
    pid: u32,
    memory: Memory,
    layouts: Layouts,
    owners: Vec<Owner>,
    pools: threads::Pools,
    /// Headers of tasks whose owner's list was not found.
    strays: Vec<ProcAddr>,
    /// Headers of closures on the blocking pool, or what is left of them.
    closures: Vec<ProcAddr>,
}

impl Finder {
    /// For a process that has these files mapped. `None` if the layout of their tasks is not known:
    /// before Tokio 1.23 the vtables do not tell it.
    pub(super) fn new(pid: u32, images: &[MappedImage]) -> Option<Self> {
        let layouts = Layouts::of(images);
        (!layouts.is_empty()).then(|| Self {
            pid,
            memory: Memory::of(pid),
            layouts,
            owners: Vec::new(),
            pools: threads::Pools::default(),
            strays: Vec::new(),
            closures: Vec::new(),
        })
    }

    /// Sorts what a scan found: the closures, and the tasks by their owner.
    fn take(&mut self, headers: Vec<ProcAddr>) {
        self.closures.clear();
        self.strays.clear();
        let mut owned: HashMap<(u64, u64), Vec<Header>> = HashMap::new();
        for header in Header::read_many(&self.memory, &self.layouts, &headers) {
            if header.layout.is_blocking {
                self.closures.push(header.address);
            } else if header.owner != 0 {
                let key = (header.owner, header.scheduler);
                owned.entry(key).or_default().push(header);
            }
        }
        let mut owned: Vec<_> = owned.into_iter().collect();
        owned.sort_by_key(|(key, headers)| (std::cmp::Reverse(headers.len()), *key));
        let mut walk = Walk::new(&self.memory, &self.layouts, Instant::now() + TIME_LIMIT);
        for (_, headers) in owned.into_iter().take(MAX_OWNERS) {
            let known = |header: &Header| self.owners.iter().any(|owner| owner.is_of(header));
            if headers.first().is_some_and(known) {
                continue;
            }
            let mut tries = headers.iter().take(MAX_TRIES);
            match tries.find_map(|header| Owner::find(&mut walk, &self.memory, header)) {
                Some(owner) => self.owners.push(owner),
                None => self
                    .strays
                    .extend(headers.iter().map(|header| header.address)),
            }
        }
    }

    fn walk(&self) -> Walk<'_> {
        let deadline = Instant::now() + TIME_LIMIT;
        Walk::new(&self.memory, &self.layouts, deadline)
    }

    /// Those tasks without a known list that are members of one.
    fn linked_strays(&self, walk: &mut Walk<'_>) -> (Vec<Node>, u64) {
        let headers = Header::read_many(&self.memory, &self.layouts, &self.strays);
        // A scheduler has one list: what is not on it was read while it changed, or is a copy that
        // was left on a stack, with something else by now where the list's number was.
        let is_listed = |header: &Header| self.owners.iter().any(|owner| owner.serves(header));
        let alive = headers
            .into_iter()
            .filter(|header| header.is_alive() && !is_listed(header));
        let (mut nodes, mut unsure) = (Vec::new(), 0);
        for header in alive {
            match walk.linked(header.address) {
                Some(node) => nodes.push(node),
                None => unsure += 1,
            }
        }
        (nodes, unsure)
    }

    fn live_closures(&self) -> Vec<(Header, TaskState)> {
        let headers = Header::read_many(&self.memory, &self.layouts, &self.closures);
        let waits = |header: &Header| header.is_alive() && !header.is_running();
        let queued: HashSet<ProcAddr> = match headers.iter().any(waits) {
            true => pool::queued(&self.memory, &self.layouts, &self.owners),
            false => HashSet::new(),
        };
        let state = |header: Header| match header.is_alive() && header.is_unowned() {
            true if header.is_running() => Some((header, TaskState::Running)),
            true if queued.contains(&header.address) => Some((header, TaskState::Queued)),
            _ => None,
        };
        headers.into_iter().filter_map(state).collect()
    }
}

impl TaskFinder for Finder {
    fn search(&mut self) -> Result<Searched, ProcessError> {
        let resident = resident(self.pid)?;
        let found = scan::scan(&self.memory, &resident.ranges, &self.layouts);
        self.owners.retain(|owner| owner.is_there(&self.memory));
        self.take(found.headers);
        Ok(Searched {
            loops: self.owners.len(),
            bytes: found.bytes,
            unread: resident.swapped + resident.unknown + found.unread,
            strays: self.linked_strays(&mut self.walk()).0.len(),
        })
    }

    fn counts(&mut self) -> Vec<LoopCount> {
        self.owners.retain(|owner| owner.is_there(&self.memory));
        let mut counts = Vec::new();
        for owner in &self.owners {
            let (address, number, scheduler) = (owner.address, owner.number, owner.scheduler);
            let count = |active, spawned, source| LoopCount {
                address,
                number,
                scheduler,
                active,
                spawned,
                source,
            };
            counts.push(match owner.counters(&self.memory) {
                Some((active, spawned)) => count(active, spawned, CountSource::Counter),
                None => {
                    let walked = owner.tasks(&mut self.walk());
                    let source = match walked.is_whole {
                        true => CountSource::Walked,
                        false => CountSource::PartlyWalked,
                    };
                    count(walked.nodes.len() as u64, None, source)
                }
            });
        }
        counts
    }

    fn pools(&mut self) -> Option<Vec<PoolCount>> {
        // A `LocalSet` uses the pool of its runtime, if that has one.
        let has_pool = |owner: &&Owner| owner.kind() != Some(Scheduler::Local);
        let owners: Vec<_> = self.owners.iter().filter(has_pool).collect();
        self.pools.read(&self.memory, &self.layouts, &owners)
    }

    fn tasks(&mut self) -> LiveTasks {
        let mut walk = self.walk();
        let mut found = LiveTasks::default();
        for owner in &self.owners {
            let walked = owner.tasks(&mut walk);
            if !walked.is_whole {
                let counted = owner.counters(&self.memory).map_or(0, |(active, _)| active);
                found.unsure += counted.saturating_sub(walked.nodes.len() as u64).max(1);
            }
            let of_loop = Some(found.loops.len());
            found.loops.push(LiveLoop {
                address: owner.address,
                scheduler: owner.scheduler,
            });
            let tasks = walked.nodes.iter().map(|node| node.task(of_loop));
            found.tasks.extend(tasks);
        }
        // Where a task ended and another one took its place meanwhile, the later one is there.
        let mut seen = HashSet::new();
        found.tasks.reverse();
        found.tasks.retain(|task| seen.insert(task.header));
        found.tasks.reverse();
        let (strays, unsure) = self.linked_strays(&mut walk);
        found.unsure += unsure;
        found
            .tasks
            .extend(strays.iter().map(|node| node.task(None)));
        let closures = self.live_closures();
        let closures = closures
            .iter()
            .map(|(header, state)| header.task(*state, None));
        found.tasks.extend(closures);
        found
    }

    fn unclaimed(&mut self, tasks: &[LiveTask]) -> Result<Vec<Unclaimed>, ProcessError> {
        let resident = resident(self.pid)?;
        let searched = unclaimed::Searched {
            memory: &self.memory,
            ranges: &resident.ranges,
            vtables: vtables::Vtables::of(self.pid, self.memory),
            layouts: &self.layouts,
            tasks,
        };
        Ok(unclaimed::unclaimed(&searched))
    }
}

impl Node {
    fn task(&self, of_loop: Option<usize>) -> LiveTask {
        self.header.task(self.header.state(), of_loop)
    }
}

impl Header {
    fn task(&self, state: TaskState, of_loop: Option<usize>) -> LiveTask {
        LiveTask {
            header: self.address,
            id: (self.id != 0).then_some(self.id),
            served: Arc::clone(&self.layout.served),
            image: self.layout.image,
            state,
            no_waker: self.has_no_waker(),
            of_loop,
        }
    }
}
