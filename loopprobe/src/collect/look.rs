//! One look at the target's threads.

use loopprobe_common::thread::Thread;

/// What the kernel side knew of the threads, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    /// Each thread as the kernel side numbers it, and what it keeps of it.
    pub(super) threads: &'a [(u32, Thread)],
    pub(super) now_ns: u64,
    /// From when on a poll is long.
    pub(super) threshold_ns: u64,
}
