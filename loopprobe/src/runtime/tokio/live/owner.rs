//! The list that a scheduler keeps of its tasks.

use super::{
    around,
    header::Header,
    walk::{Ends, Membership, Walk, Walked},
};
use crate::{elf::ProcAddr, process::Memory, runtime::tokio::scheduler::Scheduler};

/// How far into the scheduler's allocation the list is looked for. It lies at 0x1f0 at most in all
/// builds tried (Tokio 1.54, multi_thread).
pub(super) const SEARCHED_WORDS: usize = 512;
/// How many words lie between a list and its owner's number.
const MAX_DISTANCE: usize = 8;
/// Shards of a list. Source: `OwnedTasks::gen_shared_list_size` (1.35 and later): four for each
/// worker, and a power of two.
const SHARDS: std::ops::RangeInclusive<u64> = 4..=1 << 16;
/// A shard: the lock, the first task, the last task.
const SHARD_BYTES: u64 = 24;
const SHARD_ENDS: u64 = 8;
/// Where the links may lie in a trailer. All versions have them first; others are tried if that
/// fails.
const LINKS: [u64; 3] = [0, 16, 32];
/// Another look at lists that changed meanwhile.
const TRIES: usize = 8;

/// The owner of tasks: a runtime, or a `LocalSet`.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    /// What its tasks point to as their scheduler.
    pub address: ProcAddr,
    /// Which scheduler.
    pub scheduler: &'static str,
    /// Its number, which Tokio gives only once (`get_next_id` in `tokio/src/runtime/task/list.rs`).
    pub number: u64,
    /// Where that lies.
    number_at: ProcAddr,
    lists: Lists,
    links: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    /// One list (every `LocalSet`, and runtimes before 1.35).
    One(Ends),
    /// `ShardedList` of 1.35 and later.
    Sharded {
        shards: ProcAddr,
        count: u64,
        /// Where the words lie that point to the shards and say how many there are.
        at: ProcAddr,
        counters: Option<Counters>,
    },
}

/// Where an owner counts its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counters {
    active: ProcAddr,
    /// 1.39 and later.
    spawned: Option<ProcAddr>,
}

impl Owner {
    /// The owner of a task.
    pub(super) fn find(walk: &mut Walk<'_>, memory: &Memory, task: &Header) -> Option<Self> {
        if walk.is_late() || task.scheduler < 0x1000 || !task.scheduler.is_multiple_of(8) {
            return None;
        }
        let address = ProcAddr(task.scheduler);
        (0..TRIES).find_map(|_| {
            let words = words(memory, address);
            let number = task.owner;
            let (lists, number_at, links) = sharded(walk, address, &words, number)
                .or_else(|| one(walk, address, &words, number))?;
            Some(Self {
                address,
                scheduler: task.layout.served.scheduler,
                number,
                number_at,
                lists,
                links,
            })
        })
    }

    /// Whether this is the owner of a task.
    pub(super) fn is_of(&self, task: &Header) -> bool {
        (self.number, self.address.0) == (task.owner, task.scheduler)
    }

    /// Whether a task's scheduler is this one, whatever list it says that it is on.
    pub(super) fn serves(&self, task: &Header) -> bool {
        self.address.0 == task.scheduler
    }

    /// Which scheduler it is, where that is known.
    pub(super) fn kind(&self) -> Option<Scheduler> {
        use Scheduler::{CurrentThread, Local, MultiThread};
        let mut known = [MultiThread, CurrentThread, Local].into_iter();
        known.find(|kind| kind.word() == self.scheduler)
    }

    /// Whether it may have so many workers, as far as its lists tell.
    pub(super) fn may_have_workers(&self, workers: u64) -> bool {
        match self.lists {
            Lists::Sharded { count, .. } => {
                workers
                    .saturating_mul(4)
                    .next_power_of_two()
                    .min(*SHARDS.end())
                    == count
            }
            Lists::One(_) => true,
        }
    }

    /// Whether it still is where it was.
    pub(super) fn is_there(&self, memory: &Memory) -> bool {
        let is_same_list = match self.lists {
            Lists::One(_) => true,
            Lists::Sharded {
                shards, count, at, ..
            } => {
                let mut words = [0; 2];
                memory.places(&[(at, 2)], &mut words) == 1 && words == [shards.0, count]
            }
        };
        is_same_list && memory.word(self.number_at) == Some(self.number)
    }

    /// How many tasks it has, and has had, by its own counters.
    pub(super) fn counters(&self, memory: &Memory) -> Option<(u64, Option<u64>)> {
        let Lists::Sharded { counters, .. } = self.lists else {
            return None;
        };
        let counters = counters?;
        let spawned = match counters.spawned {
            Some(at) => Some(memory.word(at)?),
            None => None,
        };
        Some((memory.word(counters.active)?, spawned))
    }

    /// Its tasks.
    pub(super) fn tasks(&self, walk: &mut Walk<'_>) -> Walked {
        let first = self.linked_at(walk, self.links);
        if first.is_whole {
            return first;
        }
        // Another place of the links shows itself by a longer walk.
        let mut best = first;
        for links in LINKS.into_iter().filter(|links| *links != self.links) {
            let walked = self.linked_at(walk, links);
            if walked.nodes.len() > best.nodes.len() {
                best = walked;
            }
        }
        best
    }

    fn linked_at(&self, walk: &mut Walk<'_>, links: u64) -> Walked {
        let of = Membership {
            owner: self.number,
            links,
        };
        let (shards, count) = match self.lists {
            Lists::One(ends) => return walk.list(ends, of),
            Lists::Sharded { shards, count, .. } => (shards, count),
        };
        let mut all = Walked {
            is_whole: true,
            ..Walked::default()
        };
        for ends in (0..count).filter_map(|index| shard(shards, index)) {
            let walked = walk.list(ends, of);
            all.is_whole &= walked.is_whole;
            all.nodes.extend(walked.nodes);
        }
        all
    }
}

/// The first words of a scheduler's allocation.
pub(super) fn words(memory: &Memory, address: ProcAddr) -> Vec<u64> {
    around::words(memory, address, SEARCHED_WORDS)
}

fn place(address: ProcAddr, index: usize) -> ProcAddr {
    ProcAddr(address.0.wrapping_add(8 * index as u64))
}

fn shard(shards: ProcAddr, index: u64) -> Option<Ends> {
    let at = index.checked_mul(SHARD_BYTES)?.checked_add(SHARD_ENDS)?;
    Some(Ends {
        at: ProcAddr(shards.0.checked_add(at)?),
    })
}

/// Where the owner's number lies near a list that takes the words `from..to`.
fn number_near(words: &[u64], from: usize, to: usize, number: u64) -> Option<usize> {
    let after = to..words.len().min(to + MAX_DISTANCE);
    let before = from.saturating_sub(MAX_DISTANCE)..from;
    after.chain(before).find(|index| words[*index] == number)
}

/// Source: `tokio/src/util/sharded_list.rs`: pointer and number of the shards, (1.39 and later:
/// tasks so far,) tasks now, and the number of shards less one.
fn sharded(
    walk: &mut Walk<'_>,
    address: ProcAddr,
    words: &[u64],
    number: u64,
) -> Option<(Lists, ProcAddr, u64)> {
    for index in 0..words.len().saturating_sub(2) {
        let (pointer, count) = (words[index], words[index + 1]);
        let is_plausible = pointer >= 0x1000
            && pointer.is_multiple_of(8)
            && count.is_power_of_two()
            && SHARDS.contains(&count);
        if !is_plausible {
            continue;
        }
        let near = words[index + 2..].iter().take(4);
        let Some(mask) = near.clone().position(|word| *word == count - 1) else {
            continue;
        };
        let Some(number_at) = number_near(words, index, index + 3 + mask, number) else {
            continue;
        };
        let shards = ProcAddr(pointer);
        let Some(links) = LINKS.into_iter().find(|links| {
            let links = *links;
            let of = Membership {
                owner: number,
                links,
            };
            are_lists(walk, shards, count, of)
        }) else {
            continue;
        };
        let at = |distance| place(address, index + 2 + distance);
        let counters = match mask {
            1 => Some(Counters {
                active: at(0),
                spawned: None,
            }),
            2 => Some(Counters {
                active: at(1),
                spawned: Some(at(0)),
            }),
            _ => None,
        };
        let lists = Lists::Sharded {
            shards,
            count,
            at: place(address, index),
            counters,
        };
        return Some((lists, place(address, number_at), links));
    }
    None
}

fn are_lists(walk: &mut Walk<'_>, shards: ProcAddr, count: u64, of: Membership) -> bool {
    let mut are_ends = |index| {
        let ends = shard(shards, index).and_then(|ends| walk.ends(ends));
        ends.is_some_and(|(first, last)| walk.are_ends(first, last, of))
    };
    // A shard may change between two reads.
    (0..count).all(|index| (0..TRIES).any(|_| are_ends(index)))
}

/// Source: `OwnedTasks` before 1.35 and `LocalOwnedTasks` in `tokio/src/runtime/task/list.rs`: the
/// first and the last task, near the owner's number. The queue of woken tasks has a first and a
/// last one too, so that the longest list is the one.
fn one(
    walk: &mut Walk<'_>,
    address: ProcAddr,
    words: &[u64],
    number: u64,
) -> Option<(Lists, ProcAddr, u64)> {
    let mut best: Option<(usize, (Lists, ProcAddr, u64))> = None;
    for index in 0..words.len().saturating_sub(1) {
        let (first, last) = (words[index], words[index + 1]);
        if first == 0 || last == 0 {
            continue;
        }
        let Some(number_at) = number_near(words, index, index + 2, number) else {
            continue;
        };
        let ends = Ends {
            at: place(address, index),
        };
        for links in LINKS {
            let of = Membership {
                owner: number,
                links,
            };
            if !walk.are_ends(first, last, of) {
                continue;
            }
            let walked = walk.list(ends, of);
            let is_longer = best
                .as_ref()
                .is_none_or(|(length, _)| walked.nodes.len() > *length);
            if walked.is_whole && is_longer {
                let found = (Lists::One(ends), place(address, number_at), links);
                best = Some((walked.nodes.len(), found));
            }
        }
    }
    best.map(|(_, found)| found)
}
