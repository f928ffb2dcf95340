//! The first words of a task in memory, and what their state bits say that it does.

use std::sync::Arc;

use super::layout::{Layout, Layouts};
use crate::{elf::ProcAddr, process::Memory, runtime::TaskState};

/// The bits of the state word. Source: `tokio/src/runtime/task/state.rs`, the same in every version
/// from 1.0 to 1.54.
const RUNNING: u64 = 1;
const COMPLETE: u64 = 1 << 1;
const NOTIFIED: u64 = 1 << 2;
const JOIN_INTEREST: u64 = 1 << 3;
const REFERENCES: u32 = 6;
/// No task has more wakers and handles than that; a freed one's word may look like more.
const MAX_REFERENCES: u64 = 1 << 24;
/// Ids are counted up from 1.
const MAX_ID: u64 = 1 << 48;
/// The vtable is the third word of a header, from 1.21 on. Source:
/// `tokio/src/runtime/task/core.rs`.
pub(super) const VTABLE: u64 = 0x10;
/// Words of the header that are read: state, next in the queue, vtable, owner.
pub(super) const WORDS: usize = 4;
/// Headers read in one call of the kernel.
const BATCH: usize = 340;

/// A task's header, and what lies behind it.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Where it lies.
    pub address: ProcAddr,
    /// Its type.
    pub layout: Arc<Layout>,
    /// The state word.
    pub word: u64,
    /// The next task in a queue.
    pub queue_next: u64,
    /// The number of the list that it is a member of, or was; 0 if it never was.
    pub owner: u64,
    /// The scheduler's pointer; for a closure, nothing of meaning.
    pub scheduler: u64,
    /// The task's id.
    pub id: u64,
}

impl Header {
    /// From its first words and what was read with `layout`, if that is its type.
    pub(super) fn from_words(
        address: ProcAddr,
        layout: &Arc<Layout>,
        words: [u64; WORDS],
        scheduler: u64,
        id: u64,
    ) -> Self {
        let [word, queue_next, _, owner] = words;
        Self {
            address,
            layout: Arc::clone(layout),
            word,
            queue_next,
            owner,
            scheduler,
            id,
        }
    }

    /// Reads what is at these addresses, some in each call; what is no header any longer is left
    /// out.
    pub(super) fn read_many(
        memory: &Memory,
        layouts: &Layouts,
        addresses: &[ProcAddr],
    ) -> Vec<Self> {
        let mut found = Vec::with_capacity(addresses.len());
        for batch in addresses.chunks(BATCH) {
            let first = read_all(memory, batch, |_, address| Some((address, WORDS)));
            let typed: Vec<_> = batch
                .iter()
                .zip(&first)
                .filter_map(|(address, words)| {
                    let words: [u64; WORDS] = words.as_ref()?.as_slice().try_into().ok()?;
                    Some((*address, words, layouts.at(words[2])?))
                })
                .collect();
            let at: Vec<ProcAddr> = typed.iter().map(|(address, ..)| *address).collect();
            let offset = |index: usize, address: ProcAddr, of: fn(&Layout) -> u64| {
                Some((ProcAddr(address.0.checked_add(of(typed[index].2))?), 1))
            };
            let schedulers = read_all(memory, &at, |index, a| offset(index, a, |l| l.scheduler));
            let ids = read_all(memory, &at, |index, a| offset(index, a, |l| l.id));
            for ((typed, scheduler), id) in typed.iter().zip(schedulers).zip(ids) {
                if let (Some(scheduler), Some(id)) = (scheduler, id) {
                    let (address, words, layout) = *typed;
                    found.push(Self::from_words(
                        address,
                        layout,
                        words,
                        scheduler[0],
                        id[0],
                    ));
                }
            }
        }
        found
    }

    /// Whether a task with such a state can be: it has references, an id, and has not ended.
    pub(super) fn is_alive(&self) -> bool {
        let references = self.word >> REFERENCES;
        (1..MAX_REFERENCES).contains(&references)
            && self.word & COMPLETE == 0
            && (1..MAX_ID).contains(&self.id)
    }

    /// Whether a thread runs it.
    pub(super) fn is_running(&self) -> bool {
        self.word & RUNNING != 0
    }

    /// Whether it was never a member of a list or queue of tasks, as closures are not.
    pub(super) fn is_unowned(&self) -> bool {
        self.owner == 0 && self.queue_next == 0
    }

    /// Whether the task waits and nobody holds a waker of it. References to a task that waits: its
    /// list's, its `JoinHandle`'s while that lives, one for each waker and `AbortHandle`
    /// (`State::new` and `transition_to_idle`, 1.23 to 1.54).
    pub(super) fn has_no_waker(&self) -> bool {
        let handle = u64::from(self.word & JOIN_INTEREST != 0);
        let references = self.word >> REFERENCES;
        self.state() == TaskState::Idle && !self.layout.is_blocking && references == 1 + handle
    }

    /// What the task does.
    pub(super) fn state(&self) -> TaskState {
        match self.word {
            word if word & COMPLETE != 0 => TaskState::Complete,
            word if word & RUNNING != 0 => TaskState::Running,
            word if word & NOTIFIED != 0 => TaskState::Scheduled,
            _ => TaskState::Idle,
        }
    }
}

/// Reads some words of each address; `None` where that could not be read.
fn read_all(
    memory: &Memory,
    addresses: &[ProcAddr],
    place: impl Fn(usize, ProcAddr) -> Option<(ProcAddr, usize)>,
) -> Vec<Option<Vec<u64>>> {
    let places: Vec<_> = addresses
        .iter()
        .enumerate()
        .map(|(index, address)| place(index, *address).unwrap_or((ProcAddr(0), 1)))
        .collect();
    let mut found = Vec::with_capacity(places.len());
    while found.len() < places.len() {
        let rest = &places[found.len()..];
        let mut words = vec![0; rest.iter().map(|(_, words)| words).sum()];
        let read = memory.places(rest, &mut words);
        let mut words = words.as_slice();
        for (_, count) in &rest[..read] {
            let (own, others) = words.split_at(*count);
            found.push(Some(own.to_vec()));
            words = others;
        }
        if read < rest.len() {
            found.push(None);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_read_hides_no_other() {
        let memory = Memory::of(std::process::id());
        let here = [5_u64, 6];
        let at = |index: usize| ProcAddr(&raw const here[index] as u64);
        let found = read_all(&memory, &[at(0), ProcAddr(8), at(1)], |_, address| {
            Some((address, 1))
        });
        assert_eq!(found, [Some(vec![5]), None, Some(vec![6])]);
    }
}
