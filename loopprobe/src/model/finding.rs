//! What is wrong with a loop as a whole: its kind, what was seen, and the polls that are in it.

use serde::{Deserialize, Serialize};

use super::{Cause, LongPoll, Pool, SourceLocation, ThreadState};

/// Something that is wrong with a loop as a whole. It is said once an occurrence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// When it was found (`CLOCK_MONOTONIC`, nanoseconds).
    pub time_ns: u64,
    /// The process.
    pub pid: u32,
    /// What.
    pub kind: FindingKind,
    /// What was seen.
    pub evidence: Evidence,
    /// What to do.
    pub advice: String,
}

impl Eq for Finding {}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// All workers of a runtime are in long polls at once.
    AllWorkersBlocked,
    /// All threads that poll wait for locks, or for other threads, and no thread of the process
    /// runs.
    Deadlock,
    /// Nobody turned a runtime's driver, for a poll kept the thread that turned it last.
    DriverLag,
    /// A task waited for the poll that had woken it, though a worker was idle.
    LifoSlot,
    /// One task is polled again and again without end.
    BusyTask,
    /// All threads of a blocking pool are busy, it may have no more, and closures wait.
    PoolExhausted,
    /// Tasks wait, and nobody holds a waker of them.
    StuckTask,
    /// A future was handed a lock and is not polled, while others wait for it.
    Futurelock,
    /// Tasks live for long, or the polls of one take long together.
    SlowTask,
    /// The live tasks of a type only become more.
    Leak,
    /// The end of a runtime waits for the threads of its blocking pool.
    Shutdown,
}

impl FindingKind {
    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllWorkersBlocked => "all_workers_blocked",
            Self::Deadlock => "deadlock",
            Self::DriverLag => "driver_lag",
            Self::LifoSlot => "lifo_slot",
            Self::BusyTask => "busy_task",
            Self::PoolExhausted => "pool_exhausted",
            Self::StuckTask => "stuck_task",
            Self::Futurelock => "futurelock",
            Self::SlowTask => "slow_task",
            Self::Leak => "leak",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What was seen. What does not belong to a finding's kind is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Since when (`CLOCK_MONOTONIC`, nanoseconds).
    pub since_ns: u64,
    /// How long so far, in nanoseconds.
    pub duration_ns: u64,
    /// Whether it is proven; else it is possible.
    pub certain: bool,
    /// The polls in which threads are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub polls: Vec<FoundPoll>,
    /// How many workers the runtime was seen to have, where all of them matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u64>,
    /// Workers of the same runtime that were parked all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_workers: Option<u64>,
    /// The thread that turned the driver last, or that polls the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// The name of the task's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<u64>,
    /// How many tasks are so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// How many there were at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks_before: Option<u64>,
    /// Some of them, the oldest, or those that were seen first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_ids: Vec<u64>,
    /// What the first of them awaits, outermost first, as far as it is known.
    #[serde(rename = "await", default, skip_serializing_if = "Vec::is_empty")]
    pub awaits: Vec<Awaited>,
    /// Polls of the task a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polls_per_second: Option<u64>,
    /// How much of the time the thread was in long polls, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_polls_ns: Option<u64>,
    /// How long the task's polls have taken together since the session began, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_ns: Option<u64>,
    /// How much of one thread's time the task's polls took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The blocking pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// The threads that were found in a closure of a blocking pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<ThreadState>,
}

/// A future that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// The async function or block, or another future's type.
    pub function: String,
    /// Which of its awaits it is at, counted from 1 as the compiler does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Where that is.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub location: Option<SourceLocation>,
}

impl Evidence {
    /// Whether the thread was in long polls for less than half of the time, so that they do not
    /// explain it.
    pub fn is_beside_polls(&self) -> bool {
        self.in_polls_ns.is_some_and(|ns| ns < self.duration_ns / 2)
    }
}

/// A poll that is part of a finding; the `long_poll` event with the same `tid` and `start_ns` has
/// its stacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundPoll {
    /// Its thread.
    pub tid: u32,
    /// The thread's name.
    pub thread: String,
    /// The name of the task's type.
    pub task: String,
    /// The task's id, where it has one.
    pub task_id: Option<u64>,
    /// When it began (`CLOCK_MONOTONIC`, nanoseconds).
    pub start_ns: u64,
    /// How long it took so far.
    pub duration_ns: u64,
    /// Whether it is over.
    pub ended: bool,
    /// Why it is long, where that is known.
    pub cause: Option<Cause>,
    /// The blocking call, where it is known.
    pub call: Option<String>,
    /// What to do about this poll, where its cause is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl From<&LongPoll> for FoundPoll {
    fn from(poll: &LongPoll) -> Self {
        let diagnosis = poll.diagnosis.as_ref();
        Self {
            tid: poll.tid,
            thread: poll.thread.clone(),
            task: poll.task.name.clone(),
            task_id: poll.task_id,
            start_ns: poll.start_ns,
            duration_ns: poll.duration_ns,
            ended: poll.ended,
            cause: diagnosis.map(|d| d.cause),
            call: diagnosis.and_then(|d| Some(d.call.as_ref()?.function.clone())),
            advice: diagnosis
                .filter(|d| d.cause != Cause::Unknown)
                .map(|d| d.advice.clone()),
        }
    }
}
