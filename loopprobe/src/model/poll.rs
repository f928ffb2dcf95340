//! One poll at or over the threshold, with its wall time split and its stacks.

use serde::{Deserialize, Serialize};

use super::{Diagnosis, Stack, TaskKind, TaskType};

/// What a long poll was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PollKind {
    /// A poll of a task.
    Async,
    /// A poll of the future given to `block_on`.
    Root,
}

/// A poll's wall time, split exactly. The parts add up to the duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Running on a CPU, in nanoseconds.
    pub on_cpu_ns: u64,
    /// Ready to run, but waiting for a CPU.
    pub runnable_ns: u64,
    /// Waiting in the kernel for something.
    pub blocked_ns: u64,
}

/// Between which durations a poll's lies that was watched instead of timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// It took at least this long.
    pub duration_lo_ns: u64,
    /// It took at most this long; `None` if that is not known.
    pub duration_hi_ns: Option<u64>,
    /// Whether something proves that `duration_lo_ns` is one poll's, and not several ones' of the
    /// same task.
    pub certain: bool,
}

/// One poll at or over the threshold.
///
/// With [`Bounds`], the duration is the lower one, and the beginning is when the poll was seen
/// first: from then on, for that long, it was open for certain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongPoll {
    /// The process.
    pub pid: u32,
    /// The thread, as `/proc` of this process shows it.
    pub tid: u32,
    /// The thread's name.
    pub thread: String,
    /// The task's id, where it has one. A root future has none.
    pub task_id: Option<u64>,
    /// The task's type.
    pub task: TaskType,
    /// When the poll began (`CLOCK_MONOTONIC`, nanoseconds).
    pub start_ns: u64,
    /// How long it took, or has taken so far. At least: see `since_before_attach`.
    pub duration_ns: u64,
    /// How far the duration is known, if it was watched instead of timed.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// Whether it has ended. A poll that still runs is reported with `false` meanwhile, and once
    /// more when it ends.
    pub ended: bool,
    /// Whether it began before the attach, so that `start_ns` is only the attach.
    #[serde(default)]
    pub since_before_attach: bool,
    /// Whether it handed its worker to another thread with `block_in_place`: such a poll is allowed
    /// to block.
    #[serde(default)]
    pub block_in_place: bool,
    /// Where the time went, where it is known.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Why, and what to do, where it is known.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// What the thread was doing, longest first.
    #[serde(default)]
    pub stacks: Vec<Stack>,
}

impl LongPoll {
    /// How much of it was the code's own doing, in nanoseconds: not waiting for a CPU, stopped or
    /// frozen. `None` if that is not known.
    pub fn own_ns(&self) -> Option<u64> {
        let diagnosed = self.diagnosis.as_ref().and_then(|found| found.own_ns);
        let split = || self.split.map(|split| split.on_cpu_ns + split.blocked_ns);
        diagnosed
            .or_else(split)
            .map(|own_ns| own_ns.min(self.duration_ns))
    }

    /// Whether it may block, or may be no poll at all: one that called `block_in_place`, or a root
    /// future that is only likely.
    pub fn is_blameless(&self) -> bool {
        self.block_in_place || (self.task.kind == TaskKind::Root && !self.task.certain)
    }
}
