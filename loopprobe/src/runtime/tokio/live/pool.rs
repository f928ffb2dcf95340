//! Closures that wait for a thread of the blocking pool.

use std::collections::HashSet;

use super::{
    layout::Layouts,
    owner::{self, Owner},
};
use crate::{elf::ProcAddr, process::Memory};

/// How many words of what a scheduler points to are searched for the queue: it is the pool's first
/// field.
const SEARCHED_WORDS: usize = 64;
/// Closures in a queue.
const MAX_QUEUED: u64 = 1 << 20;
/// An element: the task, and whether it must run.
const ELEMENT_WORDS: usize = 2;

/// The headers of the queued closures of the pools that these owners use.
///
/// Source: `tokio/src/runtime/blocking/pool.rs` (1.23 to 1.54): a scheduler's handle has a pointer
/// to the pool, whose queue is a `VecDeque` of tasks. It is known by its shape: all of its elements
/// are closures.
pub(super) fn queued(memory: &Memory, layouts: &Layouts, owners: &[Owner]) -> HashSet<ProcAddr> {
    let mut seen = HashSet::new();
    let mut found = HashSet::new();
    for owner in owners {
        for pointer in owner::words(memory, owner.address) {
            let is_pointer = pointer >= 0x1000 && pointer.is_multiple_of(8) && pointer >> 47 == 0;
            if is_pointer && seen.insert(pointer) {
                found.extend(queue_at(memory, layouts, ProcAddr(pointer)));
            }
        }
    }
    found
}

/// The queue near an address, if there is one that holds something.
fn queue_at(memory: &Memory, layouts: &Layouts, address: ProcAddr) -> Vec<ProcAddr> {
    let mut words = [0; SEARCHED_WORDS];
    if memory.places(&[(address, SEARCHED_WORDS)], &mut words) != 1 {
        return Vec::new();
    }
    let queues = words.windows(4).filter_map(|window| {
        let [a, b, first, length] = *window.first_chunk()?;
        // Compilers have put the capacity before the pointer, and after it.
        [(a, b), (b, a)].into_iter().find_map(|(capacity, buffer)| {
            let is_plausible = (1..=MAX_QUEUED).contains(&capacity)
                && first < capacity
                && (1..=capacity).contains(&length)
                && buffer >= 0x1000
                && buffer.is_multiple_of(8);
            is_plausible
                .then(|| elements(memory, layouts, buffer, (first, length, capacity)))
                .flatten()
        })
    });
    queues.into_iter().next().unwrap_or_default()
}

/// All elements, if each is a closure.
fn elements(
    memory: &Memory,
    layouts: &Layouts,
    buffer: u64,
    (first, length, capacity): (u64, u64, u64),
) -> Option<Vec<ProcAddr>> {
    let element = |index: u64| {
        let at = (first + index) % capacity * ELEMENT_WORDS as u64 * 8;
        let header = memory.word(ProcAddr(buffer.checked_add(at)?))?;
        let vtable = memory.word(ProcAddr(header.checked_add(super::header::VTABLE)?))?;
        layouts.at(vtable).filter(|layout| layout.is_blocking)?;
        Some(ProcAddr(header))
    };
    (0..length).map(element).collect()
}
