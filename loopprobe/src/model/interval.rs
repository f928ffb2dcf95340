//! What the loops did over a stretch of time: busy shares, driver lag, tasks, blocking pool.

use serde::{Deserialize, Serialize};

/// What the loops of a process did over an interval. Each figure, and its error: `docs/health.md`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its end (`CLOCK_MONOTONIC`, nanoseconds).
    pub time_ns: u64,
    /// How long it was, in nanoseconds.
    pub duration_ns: u64,
    /// Polls of async tasks that ended in it.
    pub polls: u64,
    /// How many of those were at or over the threshold.
    pub long_polls: u64,
    /// The threads that poll tasks, by thread id.
    pub workers: Vec<WorkerLoad>,
    /// How long nobody turned an I/O and timer driver. `None` if no driver was seen to be turned: a
    /// runtime without one, or with `enable_time` alone, does not call `epoll_wait`.
    pub driver_lag_ns: Option<DriverLag>,
    /// From a task's wake to its poll, where that is measured.
    pub wake_to_poll: Option<WakeToPoll>,
    /// Tasks that live at its end, where that is known.
    pub active_tasks: Option<u64>,
    /// Tasks spawned in it, where that is known.
    pub spawned: Option<u64>,
    /// Tasks completed in it, where that is known.
    pub completed: Option<u64>,
    /// The blocking pool, where it is known.
    pub pool: Option<Pool>,
}

impl Eq for Interval {}

/// A thread that polls tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerLoad {
    /// The thread.
    pub tid: u32,
    /// Its name.
    #[serde(default)]
    pub thread: String,
    /// The share of the interval that it spent in polls, 0 to 1; a poll that is still open counts
    /// up to the end.
    pub busy: f64,
    /// The longest time without parking that ended in the interval or goes on at its end, in
    /// nanoseconds; from before the interval too.
    pub longest_ns: u64,
}

/// How long nobody was in the `epoll_wait` of a runtime, although its thread could have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverLag {
    /// The longest such time of all runtimes that ended in the interval or goes on at its end, in
    /// nanoseconds.
    pub max: u64,
    /// The mean of those that ended.
    pub mean: u64,
}

/// How long tasks waited from when they were scheduled (by a waker, when they were spawned, or by a
/// poll of their own that had woken them) to the beginning of their poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeToPoll {
    /// How many polls.
    pub count: u64,
    /// Mean, in nanoseconds.
    #[serde(default)]
    pub mean_ns: u64,
    /// Median, in nanoseconds; relative error at most 12.5 %.
    pub p50_ns: u64,
    /// 99th percentile, in nanoseconds; relative error at most 12.5 %.
    pub p99_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// Polls of which it is not known when their task was scheduled.
    #[serde(default)]
    pub unseen: u64,
}

/// Threads and closures of the blocking pools. What is `None` is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Threads that run a closure.
    pub busy: u64,
    /// Threads that wait for one.
    pub idle: Option<u64>,
    /// Closures that wait for a thread.
    pub queued: Option<u64>,
    /// How many threads there may be.
    pub cap: Option<u64>,
    /// The age of the oldest closure that waits.
    pub oldest_ns: Option<u64>,
}
