//! What a thread in the runtime, outside any task, does: shuts down, works, or parks.

/// Where a thread stands inside a runtime, outside of any task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It drops a runtime, which waits for its other threads.
    ShuttingDown,
    /// It is in a worker's own loop.
    Worker,
    /// It parks: in `block_on`, on a loop of its own, or as an idle thread of a pool.
    Parking,
    /// None of these, as far as is known.
    Elsewhere,
}
