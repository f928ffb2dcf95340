//! A snapshot of a running session: workers and their open polls, totals, cost; never recorded.

use super::{Budget, Canary, Coverage, Distribution, Interval, Lost, ProbeCost, TaskSummary};

/// What a session knows at one moment. Not part of the stream of events, and never recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// When (`CLOCK_MONOTONIC`, nanoseconds).
    pub time_ns: u64,
    /// Polls at least this long are reported from now on, in nanoseconds.
    pub threshold_ns: u64,
    /// The threads that poll tasks, by thread id.
    pub workers: Vec<Worker>,
    /// What the loops did since the snapshot before.
    pub interval: Interval,
    /// The task types so far, most total time first.
    pub tasks: Vec<TaskSummary>,
    /// Polls of async tasks so far; `None` where they are not counted.
    pub polls: Option<u64>,
    /// Where polls are watched instead of timed: how often one may have been long, but is not for
    /// certain.
    pub possible: Option<u64>,
    /// How long they took.
    pub durations: Distribution,
    /// What observation has cost so far, where it could be measured.
    pub cost: Option<ProbeCost>,
    /// Whether loopprobe's own check came out.
    pub canary: Option<Canary>,
    /// How much of what is probed was seen to work so far.
    pub coverage: Option<Coverage>,
    /// What was left out to keep to a budget, where there is one.
    pub budget: Option<Budget>,
    /// What was lost so far.
    pub lost: Lost,
    /// Whether it is the last one: only the summary follows.
    pub is_last: bool,
}

/// A thread that polls tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worker {
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub thread: String,
    /// How long it has been off its CPU since it was first seen, in nanoseconds: waiting, or ready
    /// without a CPU. The stretch that it may be off right now is included.
    pub off_ns: u64,
    /// Whether it is waiting in the kernel right now.
    pub blocked: bool,
    /// The innermost async poll that is open on it.
    pub poll: Option<CurrentPoll>,
}

/// A poll that is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentPoll {
    /// The task type's name.
    pub task: String,
    /// The task's id, where it has one.
    pub task_id: Option<u64>,
    /// Since when it has been open for certain (`CLOCK_MONOTONIC`, nanoseconds); `None` where that
    /// is not known. It began then, or, where polls are watched, has waited since then.
    pub start_ns: Option<u64>,
}
