//! Pools whose runtime ends.
//!
//! Source: `BlockingPool::shutdown` in `tokio/src/runtime/blocking/pool.rs` and `shutdown.rs`
//! beside it (1.23 to 1.54). The table of threads and the sender are taken out. Each thread has a
//! clone of the sender, and who drops the runtime waits until those are gone, unless it does not
//! wait at all (`shutdown_background`).

use super::{Known, allocated_words, are_references, is_pointer, shape, words};
use crate::{
    elf::ProcAddr,
    process::Memory,
    runtime::{PoolCount, PoolState},
};

/// What the channel is made of, behind two counts of references: its state, a value, and two
/// wakers.
const CHANNEL_WORDS: usize = 8;
/// The state in which the receiver waits, and the sender has neither sent nor gone (`RX_TASK_SET`
/// in `tokio/src/sync/oneshot.rs`).
const WAITS: u64 = 1;

/// The channel over which the end of a runtime waits for the threads of its pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    address: ProcAddr,
    /// Which of its words were zero before: its state is one of them.
    zeros: [bool; CHANNEL_WORDS],
}

impl Channel {
    /// Of a pool whose sender has not been taken out.
    pub(super) fn of(memory: &Memory, sender: u64) -> Option<Self> {
        let sender = Some(sender).filter(|sender| is_pointer(*sender))?;
        let sender = words(memory, ProcAddr(sender), 3);
        let channel = *sender.get(2).filter(|_| are_references(&sender))?;
        let inner = Self::words(memory, ProcAddr(channel))?;
        Some(Self {
            address: ProcAddr(channel),
            zeros: inner.map(|word| word == 0),
        })
    }

    fn words(memory: &Memory, address: ProcAddr) -> Option<[u64; CHANNEL_WORDS]> {
        let words = words(memory, address, CHANNEL_WORDS);
        (is_pointer(address.0) && are_references(&words)).then_some(())?;
        words.first_chunk().copied()
    }

    /// Whether a thread waits for the threads of the pool.
    fn is_waited_for(&self, memory: &Memory) -> bool {
        let now = Self::words(memory, self.address).unwrap_or_default();
        let mut changed = now.iter().zip(self.zeros);
        changed.any(|(word, was_zero)| was_zero && *word == WAITS)
    }
}

/// The threads that are left of a pool that was known, if its runtime ends.
pub(super) fn closing(memory: &Memory, known: &Known) -> Option<PoolCount> {
    let size = allocated_words(memory, known.pool.0);
    let words = words(memory, known.pool, size);
    are_references(&words).then_some(())?;
    let (busy, queued) = shape::left(&words, &known.reading)?;
    Some(PoolCount {
        address: known.pool,
        busy,
        idle: 0,
        queued,
        cap: None,
        ends: None,
        state: PoolState::Closing {
            is_waited_for: known.channel?.is_waited_for(memory),
        },
    })
}
