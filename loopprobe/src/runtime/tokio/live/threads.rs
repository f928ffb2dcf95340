//! The threads of the blocking pools, and the closures that wait for one.
//!
//! Source: `Handle` in `tokio/src/runtime/scheduler/{multi_thread,current_thread}`: a scheduler's
//! handle has one pointer to its pool. No place in it is built in: the pool is known by its
//! [shape](shape).

mod closing;
mod shape;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use closing::Channel;
use shape::{Reading, Shape};

use super::{layout::Layouts, owner::Owner};
use crate::{
    elf::ProcAddr,
    process::Memory,
    runtime::{PoolCount, tokio::scheduler::Scheduler},
};

/// Words of the pool that are searched: its lock, queue, threads, callbacks and numbers, and the 16
/// shards of 1.54 if those are asked for.
const POOL_WORDS: usize = 192;
/// A pool's fields alone take more.
const LEAST_BYTES: usize = 0xc0;
const MOST_BYTES: usize = 8 * POOL_WORDS;
/// What a handle takes.
const HANDLE_BYTES: std::ops::RangeInclusive<usize> = 0x100..=8 * super::owner::SEARCHED_WORDS;
/// References to one pool or worker.
const MAX_REFERENCES: u64 = 1 << 32;
/// Another look at what changed while it was read.
const TRIES: usize = 4;
/// Workers of a runtime.
const MAX_WORKERS: u64 = 1 << 12;

/// A pool that has been found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pool: ProcAddr,
    workers: u64,
    reading: Reading,
    channel: Option<Channel>,
}

/// The pools that have been found, by their owners.
#[derive(Debug, Default)]
pub(super) struct Pools(BTreeMap<(u64, u64), Known>);

impl Pools {
    /// The pools of these owners, each once, and the closures at the ends of their queues. `None`
    /// if one of them is not known beyond doubt.
    pub(super) fn read(
        &mut self,
        memory: &Memory,
        layouts: &Layouts,
        owners: &[&Owner],
    ) -> Option<Vec<PoolCount>> {
        let owners: Vec<_> = owners
            .iter()
            .filter(|owner| is_counted(memory, owner.address.0))
            .copied()
            .collect();
        let is_owner = |key: &(u64, u64)| owners.iter().any(|owner| key_of(owner) == *key);
        self.0.retain(|key, _| is_owner(key));
        self.again(memory, layouts, &owners).or_else(|| {
            self.find(memory, layouts, &owners);
            self.again(memory, layouts, &owners)
        })
    }

    /// Looks where they were found.
    fn again(
        &mut self,
        memory: &Memory,
        layouts: &Layouts,
        owners: &[&Owner],
    ) -> Option<Vec<PoolCount>> {
        let pools = owners.iter().map(|owner| {
            let known = self.0.get_mut(&key_of(owner))?;
            (0..TRIES).find_map(|_| {
                let Some(reading) = known.read(memory, layouts) else {
                    return closing::closing(memory, known);
                };
                Some(reading.at_pool(known.pool))
            })
        });
        pools.collect()
    }

    /// Finds those that are not known.
    fn find(&mut self, memory: &Memory, layouts: &Layouts, owners: &[&Owner]) {
        let is_new = |owner: &&&Owner| !self.0.contains_key(&key_of(owner));
        let new: Vec<&Owner> = owners.iter().filter(is_new).copied().collect();
        let taken: BTreeSet<u64> = self.0.values().map(|known| known.pool.0).collect();
        let look = || look(memory, layouts, &new, &taken);
        for _ in 0..TRIES {
            // While a thread comes or goes, other words may look like the numbers, but not twice.
            let (Some(first), Some(second)) = (look(), look()) else {
                continue;
            };
            let place = |known: &Known| (known.pool, known.reading.at);
            if first.iter().map(place).eq(second.iter().map(place)) {
                let keys = new.iter().map(|owner| key_of(owner));
                self.0.extend(keys.zip(second));
                return;
            }
        }
    }
}

impl Known {
    fn read(&mut self, memory: &Memory, layouts: &Layouts) -> Option<Reading> {
        let words = words(memory, self.pool, allocated_words(memory, self.pool.0));
        let shape = are_references(&words).then(|| Shape::of(memory, layouts, &words))??;
        let reading = shape.reading(&words, self.workers)?;
        if self.channel.is_none() {
            self.channel = Channel::of(memory, shape.sender(&words));
        }
        // Where an unused pool's numbers lie is only seen once it has threads.
        if reading.at != self.reading.at && !self.reading.is_unused() {
            return None;
        }
        self.reading = reading;
        Some(reading)
    }
}

fn key_of(owner: &Owner) -> (u64, u64) {
    (owner.address.0, owner.number)
}

/// The pool of each owner, none of which is taken.
fn look(
    memory: &Memory,
    layouts: &Layouts,
    owners: &[&Owner],
    taken: &BTreeSet<u64>,
) -> Option<Vec<Known>> {
    let candidates = owners
        .iter()
        .map(|owner| candidates(memory, layouts, owner));
    let mut candidates = candidates.collect::<Option<Vec<_>>>()?;
    for own in &mut candidates {
        own.retain(|pool, _| !taken.contains(pool));
    }
    let chosen = each_its_own(&candidates)?;
    let chosen = chosen.into_iter().zip(&candidates);
    chosen.map(|(pool, own)| *own.get(&pool)?).collect()
}

/// Pools by their addresses, and what their numbers say for an owner.
type Candidates = BTreeMap<u64, Option<Known>>;

/// The pools to which an owner points, and those to which words near it point or are left from what
/// was there before.
fn candidates(memory: &Memory, layouts: &Layouts, owner: &Owner) -> Option<Candidates> {
    let handle = words(memory, owner.address, handle_words(memory, owner.address));
    // Where the code does not tell which scheduler it is, its workers do.
    let workers = match owner.kind() {
        Some(Scheduler::CurrentThread) => 0,
        _ => workers(memory, &handle, owner)?,
    };
    let pointers = handle.into_iter().filter(|word| is_pointer(*word));
    let pointers: BTreeSet<u64> = pointers.collect();
    let pools = pointers.into_iter().filter_map(|pointer| {
        let size = allocated_words(memory, pointer);
        let words = words(memory, ProcAddr(pointer), size);
        let shape = are_references(&words).then(|| Shape::of(memory, layouts, &words))??;
        // Each worker is a thread of its runtime's pool.
        (shape.entries >= workers).then_some(())?;
        let known = shape.reading(&words, workers).map(|reading| Known {
            pool: ProcAddr(pointer),
            workers,
            reading,
            channel: None,
        });
        Some((pointer, known))
    });
    Some(pools.collect())
}

/// The pool of each, where only one way to choose is left, since none has another one's.
fn each_its_own(candidates: &[Candidates]) -> Option<Vec<u64>> {
    let mut chosen = vec![None; candidates.len()];
    while chosen.iter().any(Option::is_none) {
        let (index, pool) = candidates.iter().enumerate().find_map(|(index, own)| {
            // Numbers that do not fit may be those of the right one, that changes.
            let mut left = own.keys().filter(|pool| !chosen.contains(&Some(**pool)));
            let only = left.next().filter(|_| left.next().is_none())?;
            chosen[index].is_none().then_some((index, *only))
        })?;
        chosen[index] = Some(pool);
    }
    chosen.into_iter().collect()
}

fn is_pointer(word: u64) -> bool {
    word >= 0x1000 && word.is_multiple_of(8) && word >> 47 == 0
}

/// The words at an address, as far as the pages are mapped.
fn words(memory: &Memory, address: ProcAddr, count: usize) -> Vec<u64> {
    const PAGE_WORDS: u64 = 512;
    let first = (PAGE_WORDS - address.0 / 8 % PAGE_WORDS).min(count as u64);
    let mut places = vec![(address, first as usize)];
    let mut done = first as usize;
    while done < count {
        let part = (count - done).min(PAGE_WORDS as usize);
        places.push((ProcAddr(address.0.saturating_add(8 * done as u64)), part));
        done += part;
    }
    let mut words = vec![0; count];
    let read = memory.places(&places, &mut words);
    words.truncate(places[..read].iter().map(|(_, part)| part).sum());
    words
}

/// How many workers a runtime has. It keeps a slice with two pointers for each (`Remote` in
/// `tokio/src/runtime/scheduler/multi_thread/worker.rs`), and says how many there are once more
/// (`Idle`).
fn workers(memory: &Memory, handle: &[u64], owner: &Owner) -> Option<u64> {
    let slices = handle.windows(2).filter_map(|window| {
        let [pointer, length] = window.first_chunk()?;
        let is_plausible = is_pointer(*pointer) && (1..=MAX_WORKERS).contains(length);
        let is_said_again = handle.iter().filter(|word| *word == length).count() > 1;
        let is_found = is_plausible && owner.may_have_workers(*length) && is_said_again;
        (is_found && are_remotes(memory, *pointer, *length)).then_some((*pointer, *length))
    });
    let slices: Vec<(u64, u64)> = slices.collect();
    let lengths = |slices: &mut dyn Iterator<Item = &(u64, u64)>| -> HashSet<u64> {
        slices.map(|(_, length)| *length).collect()
    };
    let all = lengths(&mut slices.iter());
    let lengths = match all.len() {
        0 | 1 => all,
        // A handle is built on a stack and moved, and what was there before is left between its
        // fields: a word that points to the stack, to two pointers that happen to lie there.
        _ => lengths(
            &mut slices
                .iter()
                .filter(|slice| fills_allocation(memory, **slice)),
        ),
    };
    let mut lengths = lengths.into_iter();
    lengths.next().filter(|_| lengths.next().is_none())
}

/// Whether glibc has allocated as much as a slice of `Remote`s takes.
fn fills_allocation(memory: &Memory, (pointer, count): (u64, u64)) -> bool {
    const LEAST_CHUNK: u64 = 32;
    let chunk = (16 * count + 8).next_multiple_of(16).max(LEAST_CHUNK);
    chunk_size(memory, pointer) == chunk
}

/// What glibc says of an allocation's size, its own word included (`malloc_chunk` in
/// `malloc/malloc.c`); with other allocators anything.
fn chunk_size(memory: &Memory, pointer: u64) -> u64 {
    memory.word(ProcAddr(pointer.wrapping_sub(8))).unwrap_or(0) & !7
}

/// Whether each worker has two pointers there to what is counted by references.
fn are_remotes(memory: &Memory, pointer: u64, count: u64) -> bool {
    let pointers = words(memory, ProcAddr(pointer), 2 * count as usize);
    let distinct: HashSet<&u64> = pointers.iter().collect();
    distinct.len() as u64 == 2 * count
        && pointers
            .iter()
            .all(|pointer| is_pointer(*pointer) && is_counted(memory, *pointer))
}

/// Whether an `Arc` may point there: two counts of references.
fn is_counted(memory: &Memory, pointer: u64) -> bool {
    are_references(&words(memory, ProcAddr(pointer), 2))
}

fn are_references(words: &[u64]) -> bool {
    let is_count = |word: &u64| (1..MAX_REFERENCES).contains(word);
    words.len() >= 2 && words[..2].iter().all(is_count)
}

/// How many words of a handle are worth a look: all, where glibc says how many there are
/// ([`allocated_words`]).
fn handle_words(memory: &Memory, address: ProcAddr) -> usize {
    let size = chunk_size(memory, address.0) as usize;
    let is_size = HANDLE_BYTES.contains(&size) && size.is_multiple_of(16);
    if is_size {
        size / 8
    } else {
        super::owner::SEARCHED_WORDS
    }
}

/// How many words of an allocation are worth a look. With other allocators than glibc's, what is
/// before it is no size, or one that does no harm.
fn allocated_words(memory: &Memory, pointer: u64) -> usize {
    let size = chunk_size(memory, pointer) as usize;
    match size {
        // A pool does not fit in there, and what lies behind may be another one.
        0x20..LEAST_BYTES if size.is_multiple_of(16) => 0,
        LEAST_BYTES..=MOST_BYTES if size.is_multiple_of(16) => size / 8,
        _ => POOL_WORDS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_workers_fills_its_allocation() {
        let memory = Memory::of(std::process::id());
        let address = |slice: &[[u64; 2]]| slice.as_ptr() as u64;
        let workers = vec![[1, 2], [3, 4], [5, 6]].into_boxed_slice();
        assert!(fills_allocation(&memory, (address(&workers), 3)));
        assert!(!fills_allocation(&memory, (address(&workers), 1)));
        let on_the_stack = std::hint::black_box([[0; 2]; 2]);
        assert!(!fills_allocation(&memory, (address(&on_the_stack[1..]), 1)));
    }

    #[test]
    fn none_has_the_pool_of_another() {
        let owner = |pools: &[u64]| pools.iter().map(|pool| (*pool, None)).collect();
        assert_eq!(each_its_own(&[]), Some(vec![]));
        assert_eq!(
            each_its_own(&[owner(&[1, 2]), owner(&[1])]),
            Some(vec![2, 1])
        );
        let three = [owner(&[1, 2]), owner(&[1, 2, 3]), owner(&[2])];
        assert_eq!(each_its_own(&three), Some(vec![1, 3, 2]));
        assert_eq!(each_its_own(&[owner(&[1, 2]), owner(&[1, 2])]), None);
        assert_eq!(each_its_own(&[owner(&[1]), owner(&[1])]), None);
        assert_eq!(each_its_own(&[owner(&[])]), None);
    }
}
