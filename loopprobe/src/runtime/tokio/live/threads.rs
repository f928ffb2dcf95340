//! The threads of the blocking pools, and the closures that wait for one.
//!
//! Source: `Inner` and `SpawnerMetrics` in `tokio/src/runtime/blocking/pool.rs` (1.23 to 1.54), and the standard library's
//! `VecDeque` and `HashMap`. No place in them is built in: they are found by their shapes, which must agree with each other.

use std::collections::HashSet;

use super::{header::VTABLE, layout::Layouts, owner::Owner};
use crate::{
    elf::ProcAddr,
    process::Memory,
    runtime::{PoolCount, QueueEnds, tokio::scheduler::Scheduler},
};

/// Words of the pool that are searched: its lock, queue, threads, callbacks and numbers, and the 16 shards of 1.54 if those are
/// asked for.
const POOL_WORDS: usize = 192;
/// A pool's fields alone take more.
const LEAST_BYTES: usize = 0xc0;
const MOST_BYTES: usize = 8 * POOL_WORDS;
/// Threads of one pool; Tokio's own limit is 512 unless the program says so.
const MAX_THREADS: u64 = 1 << 16;
/// Closures in a queue.
const MAX_QUEUED: u64 = 1 << 20;
/// References to one pool or worker.
const MAX_REFERENCES: u64 = 1 << 32;
/// Another look at what changed while it was read.
const TRIES: usize = 4;
/// Workers of a runtime.
const MAX_WORKERS: u64 = 1 << 12;
/// An element of the queue: the task, and whether it must run.
const ELEMENT_BYTES: u64 = 16;

/// The pool of an owner, and the closures at the ends of its queue. `None` if it is not known beyond doubt.
pub fn pool(memory: &Memory, layouts: &Layouts, owner: &Owner) -> Option<PoolCount> {
    (0..TRIES).find_map(|_| {
        let handle = words(memory, owner.address, super::owner::SEARCHED_WORDS);
        // Where the code does not tell which scheduler it is, its workers do.
        let workers = match owner.kind() {
            Some(Scheduler::CurrentThread) => 0,
            _ => workers(memory, &handle, owner)?,
        };
        let mut tried = HashSet::new();
        let pointers = handle.iter().filter(|word| is_pointer(**word));
        let found: Vec<PoolCount> = pointers
            .filter(|pointer| tried.insert(**pointer))
            .flat_map(|pointer| pools_at(memory, layouts, *pointer, workers))
            .collect();
        agreed(&found)
    })
}

/// What all readings say. Two that differ would leave open which one it is; where nothing is, only the limit may differ.
fn agreed(found: &[PoolCount]) -> Option<PoolCount> {
    // Zeros are everywhere, beside a pool with threads too.
    let has_threads = |pool: &&PoolCount| pool.busy + pool.idle > 0;
    let with_threads: Vec<PoolCount> = found.iter().filter(has_threads).copied().collect();
    let found = match with_threads.is_empty() {
        true => found,
        false => &with_threads,
    };
    let first = found.first()?;
    let is_same = |other: &PoolCount| {
        let numbers = |pool: &PoolCount| (pool.busy, pool.idle, pool.queued, pool.ends);
        let is_unused = numbers(first) == (0, 0, 0, None);
        numbers(other) == numbers(first) && (is_unused || other.cap == first.cap)
    };
    let cap = first
        .cap
        .filter(|cap| found.iter().all(|other| other.cap == Some(*cap)));
    // The place matters to tell one queue from another.
    let is_one_place = |other: &PoolCount| first.queued == 0 || other.address == first.address;
    let is_agreed = found
        .iter()
        .all(|other| is_same(other) && is_one_place(other));
    is_agreed.then_some(PoolCount { cap, ..*first })
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
/// `tokio/src/runtime/scheduler/multi_thread/worker.rs`), and says how many there are once more (`Idle`).
fn workers(memory: &Memory, handle: &[u64], owner: &Owner) -> Option<u64> {
    let slices = handle.windows(2).filter_map(|window| {
        let [pointer, length] = window.first_chunk()?;
        let is_plausible = is_pointer(*pointer) && (1..=MAX_WORKERS).contains(length);
        let is_said_again = handle.iter().filter(|word| *word == length).count() > 1;
        let is_found = is_plausible && owner.may_have_workers(*length) && is_said_again;
        (is_found && are_remotes(memory, *pointer, *length)).then_some(*length)
    });
    let lengths: HashSet<u64> = slices.collect();
    let mut lengths = lengths.into_iter();
    lengths.next().filter(|_| lengths.next().is_none())
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

/// How many words of an allocation are worth a look. glibc keeps its size before it (`malloc_chunk` in `malloc/malloc.c`); what is
/// there with other allocators is no such size, or one that does no harm.
fn allocated_words(memory: &Memory, pointer: u64) -> usize {
    let before = memory.word(ProcAddr(pointer.wrapping_sub(8))).unwrap_or(0);
    let size = (before & !7) as usize;
    match size {
        // A pool does not fit in there, and what lies behind may be another one.
        0x20..LEAST_BYTES if size.is_multiple_of(16) => 0,
        LEAST_BYTES..=MOST_BYTES if size.is_multiple_of(16) => size / 8,
        _ => POOL_WORDS,
    }
}

/// What the numbers at an address say, in each way in which they may be read.
fn pools_at(memory: &Memory, layouts: &Layouts, pointer: u64, workers: u64) -> HashSet<PoolCount> {
    let words = words(memory, ProcAddr(pointer), allocated_words(memory, pointer));
    let mut found = HashSet::new();
    if !are_references(&words) {
        return found;
    }
    let threads: HashSet<u64> = words
        .windows(4)
        .filter_map(|window| entries(window.first_chunk()?))
        .collect();
    let queues = queues(memory, layouts, &words);
    for at in 2..words.len() {
        for numbers in Numbers::at(&words[at..]) {
            let Some((cap, busy)) = numbers.without(workers) else {
                continue;
            };
            let Some(ends) = queues.iter().find(|(length, _)| *length == numbers.queued) else {
                continue;
            };
            if threads.contains(&numbers.threads) {
                found.insert(PoolCount {
                    address: ProcAddr(pointer),
                    busy,
                    idle: numbers.idle,
                    queued: numbers.queued,
                    cap: Some(cap),
                    ends: ends.1,
                });
            }
        }
    }
    found
}

/// How many entries a hash map has, if this is one: its control bytes, a power of two less one, room left, entries.
fn entries([a, b, left, entries]: &[u64; 4]) -> Option<u64> {
    // Compilers have put the mask before the pointer, and after it.
    let is_map = |(control, mask): (u64, u64)| {
        let buckets = mask
            .checked_add(1)
            .filter(|buckets| buckets.is_power_of_two());
        let room = match buckets {
            Some(1) => 0,
            Some(buckets @ ..=8) => buckets - 1,
            Some(buckets) => buckets / 8 * 7,
            None => return false,
        };
        control >= 0x1000
            && mask < MAX_THREADS
            && left.checked_add(*entries).is_some_and(|all| all <= room)
    };
    [(*a, *b), (*b, *a)]
        .into_iter()
        .any(is_map)
        .then_some(*entries)
}

/// The queues of closures: how many are in each, and those at its ends.
fn queues(memory: &Memory, layouts: &Layouts, words: &[u64]) -> Vec<(u64, Option<QueueEnds>)> {
    let queues = words.windows(4).filter_map(|window| {
        let [a, b, first, length] = window.first_chunk()?;
        // Compilers have put the capacity before the pointer, and after it.
        [(*a, *b), (*b, *a)]
            .into_iter()
            .find_map(|(capacity, buffer)| {
                if *length == 0 {
                    let is_unused = capacity == 0 && *first == 0 && buffer != 0;
                    let is_empty = (1..=MAX_QUEUED).contains(&capacity)
                        && *first < capacity
                        && is_pointer(buffer);
                    return (is_unused || is_empty).then_some((0, None));
                }
                let is_plausible = (1..=MAX_QUEUED).contains(&capacity)
                    && *first < capacity
                    && *length <= capacity
                    && is_pointer(buffer);
                let id = |index: u64| {
                    let at = (first + index) % capacity * ELEMENT_BYTES;
                    closure(memory, layouts, ProcAddr(buffer.checked_add(at)?))
                };
                let ends = is_plausible.then(|| {
                    let (first, last) = (id(0)?, id(length - 1)?);
                    Some(QueueEnds { first, last })
                });
                Some((*length, Some(ends??)))
            })
    });
    queues.collect()
}

/// The id of the closure to which an element of a queue points.
fn closure(memory: &Memory, layouts: &Layouts, element: ProcAddr) -> Option<u64> {
    let header = memory.word(element)?;
    let vtable = memory.word(ProcAddr(header.checked_add(VTABLE)?))?;
    let layout = layouts.at(vtable).filter(|layout| layout.is_blocking)?;
    memory.word(ProcAddr(header.checked_add(layout.id)?))
}

/// What a pool says in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    /// How many threads there may be, workers included.
    cap: u64,
    /// Those of them that are workers; `None` if this is not said (before 1.54).
    workers: Option<u64>,
    /// How many threads there are, workers included.
    threads: u64,
    idle: u64,
    queued: u64,
}

impl Numbers {
    /// The ways in which words can be read: the fields have no order of their own, but those that are alike keep the source's. How
    /// long an idle thread waits, a `Duration`, lies behind the cap in the source, and elsewhere where compilers sort by niches.
    fn at(words: &[u64]) -> Vec<Self> {
        let is_nanos = |word: u64| word & 0xffff_ffff < 1_000_000_000;
        let read = |cap: usize, workers: Option<usize>, from: usize| {
            let rest: &[u64; 3] = words.get(from..from + 3)?.try_into().ok()?;
            let [threads, idle, queued] = *rest;
            let numbers = Self {
                cap: words[cap],
                workers: workers.map(|at| words[at]),
                threads,
                idle,
                queued,
            };
            numbers.is_plausible().then_some(numbers)
        };
        let has_nanos = |at: usize| words.get(at).is_some_and(|word| is_nanos(*word));
        [
            read(0, None, 1),
            read(0, Some(1), 2),
            read(0, None, 3).filter(|_| has_nanos(2)),
            read(0, Some(1), 4).filter(|_| has_nanos(3)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn is_plausible(&self) -> bool {
        (1..=MAX_THREADS).contains(&self.cap)
            && self.threads <= self.cap
            && self.idle <= self.threads
            && self.queued <= MAX_QUEUED
    }

    /// How many threads there may be, and are busy, beside so many workers. `None` if the numbers do not fit that.
    fn without(&self, workers: u64) -> Option<(u64, u64)> {
        if self.workers.is_some_and(|said| said != workers) {
            return None;
        }
        let cap = self.cap.checked_sub(workers).filter(|cap| *cap > 0)?;
        let busy = self.threads.checked_sub(self.idle)?.checked_sub(workers)?;
        Some((cap, busy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_map_is_known_by_its_numbers() {
        assert_eq!(entries(&[0x7000, 3, 1, 2]), Some(2));
        assert_eq!(entries(&[15, 0x7000, 10, 4]), Some(4));
        assert_eq!(entries(&[0x7000, 0, 0, 0]), Some(0));
        // No mask; more than there is room for.
        assert_eq!(entries(&[0x7000, 4, 1, 2]), None);
        assert_eq!(entries(&[0x7000, 3, 2, 2]), None);
    }

    #[test]
    fn readings_have_to_agree() {
        let pool = PoolCount {
            address: ProcAddr(0x1000),
            busy: 0,
            idle: 0,
            queued: 0,
            cap: Some(512),
            ends: None,
        };
        assert_eq!(agreed(&[]), None);
        assert_eq!(agreed(&[pool, pool]), Some(pool));
        // A pool without threads, by any reading.
        let other = PoolCount {
            cap: Some(7),
            ..pool
        };
        let unlimited = PoolCount { cap: None, ..pool };
        assert_eq!(agreed(&[pool, other]), Some(unlimited));
        let busy = PoolCount { busy: 1, ..pool };
        assert_eq!(agreed(&[pool, busy]), Some(busy));
        let busy_too = PoolCount { busy: 1, ..other };
        assert_eq!(agreed(&[busy, busy_too]), None);
    }

    #[test]
    fn workers_are_no_threads_of_the_pool() {
        let numbers = Numbers {
            cap: 514,
            workers: None,
            threads: 5,
            idle: 1,
            queued: 0,
        };
        assert_eq!(numbers.without(2), Some((512, 2)));
        // Workers are never idle threads of the pool.
        assert_eq!(numbers.without(5), None);
        let said = Numbers {
            workers: Some(3),
            ..numbers
        };
        assert_eq!(said.without(2), None);
    }

    #[test]
    fn numbers_are_read_in_each_order_that_compilers_use() {
        let read = Numbers::at(&[514, 2, 3, 1, 0]);
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].workers, read[1].threads), (Some(2), 3));
        let read = Numbers::at(&[512, 10, 0, 3, 1, 0]);
        assert!(read.iter().any(|n| n.threads == 3 && n.workers.is_none()));
        assert!(Numbers::at(&[0, 1, 1, 0]).is_empty());
    }
}
