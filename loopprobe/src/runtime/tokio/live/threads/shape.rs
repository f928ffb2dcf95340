//! The shape by which a blocking pool is known.
//!
//! Source: `Inner`, `Shared` (1.54: `LockedInner`) and `SpawnerMetrics` in
//! `tokio/src/runtime/blocking/pool.rs` (1.23 to 1.54), and the standard library's `VecDeque`,
//! `HashMap` and `RandomState`. `Shared` has the queue and the threads; the numbers lie behind it,
//! since compilers put fields without a niche last.

use super::{
    super::{header::VTABLE, layout::Layouts},
    is_pointer,
};
use crate::{
    elf::ProcAddr,
    process::Memory,
    runtime::{PoolCount, PoolState, QueueEnds},
};

/// Threads of one pool; Tokio's own limit is 512 unless the program says so.
const MAX_THREADS: u64 = 1 << 16;
/// Closures in a queue.
const MAX_QUEUED: u64 = 1 << 20;
/// Threads that a pool has had.
const MAX_INDEX: u64 = 1 << 32;
/// An element of the queue: the task, and whether it must run.
const ELEMENT_BYTES: u64 = 16;
/// A map: where its entries are (4 words), and two random numbers.
const MAP_WORDS: usize = 6;
/// Words between the beginnings of the queue and the map: `Shared` has 17 in all.
const QUEUE_DISTANCE: usize = 14;

/// Where a pool's threads and queue lie in its words.
#[derive(Debug)]
pub(super) struct Shape {
    /// The map of threads.
    map: usize,
    /// How many threads are in it.
    pub entries: u64,
    /// How many closures may be in the queue, and those at its ends.
    queues: Vec<(u64, Option<QueueEnds>)>,
}

/// What the numbers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Where they lie.
    pub at: usize,
    /// Where the map lies, and the number of threads.
    map: usize,
    threads: usize,
    busy: u64,
    idle: u64,
    queued: u64,
    cap: Option<u64>,
    ends: Option<QueueEnds>,
}

impl Reading {
    /// Whether no thread but workers is there.
    pub(super) fn is_unused(&self) -> bool {
        self.busy + self.idle == 0
    }

    /// Of the pool at this address.
    pub(super) fn at_pool(self, address: ProcAddr) -> PoolCount {
        PoolCount {
            address,
            busy: self.busy,
            idle: self.idle,
            queued: self.queued,
            cap: self.cap,
            ends: self.ends,
            state: PoolState::Open,
        }
    }
}

impl Shape {
    /// Of the words of a pool; `None` of others.
    pub(super) fn of(memory: &Memory, layouts: &Layouts, words: &[u64]) -> Option<Self> {
        let (map, entries) = next_map(words, 2)?;
        let from = map.saturating_sub(QUEUE_DISTANCE).max(2);
        let to = (map + QUEUE_DISTANCE).min(words.len());
        let queues = queues(memory, layouts, &words[from..to]);
        (!queues.is_empty()).then_some(Self {
            map,
            entries,
            queues,
        })
    }

    /// The sender that each thread has a clone of, the word behind the map (1.23 to 1.54, as
    /// compiled by Rust 1.95).
    pub(super) fn sender(&self, words: &[u64]) -> u64 {
        words.get(self.map + MAP_WORDS).copied().unwrap_or(0)
    }

    /// What the numbers say, if there are such that fit the threads, the queue, and so many
    /// workers.
    pub(super) fn reading(&self, words: &[u64], workers: u64) -> Option<Reading> {
        let behind = self.map + MAP_WORDS;
        let mut fitting: Vec<Reading> = Vec::new();
        for at in behind..self.end(words) {
            let numbers = Numbers::at(words, at);
            fitting.extend(numbers.iter().filter_map(|numbers| {
                let had = words[behind..at].iter();
                let has_index = had.clone().any(|word| self.may_be_index(*word));
                has_index.then(|| self.fit(numbers, at, workers))?
            }));
        }
        let last = *fitting.last()?;
        let numbers = |reading: &Reading| (reading.busy, reading.idle, reading.queued);
        let is_other = |other: &Reading| other.at == last.at && numbers(other) != numbers(&last);
        if fitting.iter().any(is_other) {
            return None;
        }
        // Without threads and closures, zeros are all that is known.
        let has_threads = last.busy + last.idle + workers > 0;
        let is_one_cap = fitting.iter().all(|other| other.cap == last.cap);
        let cap = last.cap.filter(|_| has_threads || is_one_cap);
        Some(Reading { cap, ..last })
    }

    /// Where another pool may begin.
    fn end(&self, words: &[u64]) -> usize {
        let mut from = self.map + MAP_WORDS;
        while let Some((map, entries)) = next_map(words, from) {
            // An empty one may be what is left of this pool's own before it was moved here.
            if entries > 0 {
                return map;
            }
            from = map + MAP_WORDS;
        }
        words.len()
    }

    /// Whether a word may say how many threads the pool has had, which a map is numbered by. It
    /// lies in `Shared` too, with zeros behind it, and looks like the numbers.
    fn may_be_index(&self, word: u64) -> bool {
        (self.entries..MAX_INDEX).contains(&word)
    }

    fn fit(&self, numbers: &Numbers, at: usize, workers: u64) -> Option<Reading> {
        let (cap, busy) = numbers.without(workers)?;
        let mut queues = self.queues.iter();
        let (_, ends) = queues.find(|(length, _)| *length == numbers.queued)?;
        (numbers.threads == self.entries).then_some(Reading {
            at,
            map: self.map,
            threads: at + numbers.threads_at,
            busy,
            idle: numbers.idle,
            queued: numbers.queued,
            cap: Some(cap),
            ends: *ends,
        })
    }
}

/// How many threads of a pool are left, and how many closures wait, once the table of threads and
/// the sender have been taken out of it. `None` if they have not, or no thread is left. Those that
/// were idle have ended; before Tokio 1.54 they are still counted as idle.
pub(super) fn left(words: &[u64], before: &Reading) -> Option<(u64, u64)> {
    let (map, entries) = next_map(words, before.map)?;
    let is_taken_out = map == before.map && entries == 0 && words.get(map + MAP_WORDS) == Some(&0);
    let numbers = words.get(before.threads..).filter(|_| is_taken_out)?;
    let [threads, _idle, queued] = *numbers.first_chunk()?;
    let is_plausible = (1..MAX_THREADS).contains(&threads) && queued < MAX_QUEUED;
    is_plausible.then_some((threads, queued))
}

/// The next hash map with threads in it or none, and how many.
fn next_map(words: &[u64], from: usize) -> Option<(usize, u64)> {
    (from..words.len().saturating_sub(MAP_WORDS - 1)).find_map(|at| {
        let map: &[u64; MAP_WORDS] = words[at..].first_chunk()?;
        Some((at, entries(map)?))
    })
}

/// How many entries a hash map has, if this is one: its control bytes, a power of two less one,
/// room left, entries, and the two random numbers of its hasher.
fn entries([a, b, left, entries, keys @ ..]: &[u64; MAP_WORDS]) -> Option<u64> {
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
    // One in 30,000 random pairs looks like an address.
    let are_random = keys.iter().all(|key| key >> 48 != 0) && keys[0] != keys[1];
    let is_found = are_random && [(*a, *b), (*b, *a)].into_iter().any(is_map);
    is_found.then_some(*entries)
}

/// The queues of closures: how many are in each, and those at its ends.
fn queues(memory: &Memory, layouts: &Layouts, words: &[u64]) -> Vec<(u64, Option<QueueEnds>)> {
    let queues = words.windows(4).filter_map(|window| {
        let [a, b, first, length] = *window.first_chunk()?;
        // Compilers have put the capacity before the pointer, and after it.
        let mut orders = [(a, b), (b, a)].into_iter();
        orders.find_map(|(capacity, buffer)| {
            if length == 0 {
                let is_unused = capacity == 0 && first == 0 && buffer != 0;
                let is_empty =
                    (1..=MAX_QUEUED).contains(&capacity) && first < capacity && is_pointer(buffer);
                return (is_unused || is_empty).then_some((0, None));
            }
            let is_plausible = (1..=MAX_QUEUED).contains(&capacity)
                && first < capacity
                && length <= capacity
                && is_pointer(buffer);
            let id = |index: u64| {
                let at = (first + index) % capacity * ELEMENT_BYTES;
                closure(memory, layouts, ProcAddr(buffer.checked_add(at)?))
            };
            let ends = is_plausible.then(|| {
                let (first, last) = (id(0)?, id(length - 1)?);
                Some(QueueEnds { first, last })
            });
            Some((length, Some(ends??)))
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
    /// How many words behind the first the threads lie.
    threads_at: usize,
}

impl Numbers {
    /// The ways in which words can be read: the fields have no order of their own, but those that
    /// are alike keep the source's. How long an idle thread waits, a `Duration`, lies behind the
    /// cap in the source, and elsewhere where compilers sort by niches.
    fn at(words: &[u64], at: usize) -> Vec<Self> {
        let words = &words[at..];
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
                threads_at: from,
            };
            numbers.is_plausible().then_some(numbers)
        };
        let has_nanos = |at: usize| words.get(at).is_some_and(|word| is_nanos(*word));
        let readings = [
            read(0, None, 1),
            read(0, Some(1), 2),
            read(0, None, 3).filter(|_| has_nanos(2)),
            read(0, Some(1), 4).filter(|_| has_nanos(3)),
        ];
        readings.into_iter().flatten().collect()
    }

    fn is_plausible(&self) -> bool {
        (1..=MAX_THREADS).contains(&self.cap)
            && self.threads <= self.cap
            && self.idle <= self.threads
            && self.queued <= MAX_QUEUED
    }

    /// How many threads there may be, and are busy, beside so many workers. `None` if the numbers
    /// do not fit that.
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
mod tests;
