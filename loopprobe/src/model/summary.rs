//! The end of a session: totals by task type, groups, what was lost, what it all cost.

use serde::{Deserialize, Serialize};

use super::{
    Budget, Canary, Cause, Coverage, FindingKind, Looks, NoPolls, SourceLocation, TaskType,
    ThreadState, WakeToPoll,
};

/// What was lost, skipped or cut short, by name. A silent drop is a bug: each kind has its counter
/// here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lost {
    /// Records that found the ring buffer full.
    pub events: u64,
    /// Polls that were nested deeper than is tracked.
    pub too_deep: u64,
    /// Poll ends without a known beginning, other than those of polls that were open at the attach.
    pub unmatched_ends: u64,
    /// Poll beginnings whose end never came, other than those still open at the end of the session.
    pub unmatched_starts: u64,
    /// Threads that found the table of threads full.
    pub threads: u64,
    /// Polls of a task type that the scan did not find.
    pub unknown_types: u64,
    /// Where polls are watched: long polls of which no stack told the task type.
    #[serde(default)]
    pub unnamed_polls: u64,
    /// Reads of the target's memory that failed.
    pub unreadable: u64,
    /// Polls cut off by the end of their thread.
    pub thread_exits: u64,
    /// Switches off or on a CPU that the kernel did not show. A missed switch back on is made up
    /// for from the thread's CPU time, to a few milliseconds; a missed one off is not: its time
    /// counts as on the CPU.
    #[serde(default)]
    pub switches: u64,
    /// With entry-only timing: polls of which could not be told whether they had ended when their
    /// thread stopped. They were taken to have, unless the thread waited as no parked worker does.
    #[serde(default)]
    pub undecided: u64,
    /// Stacks that did not reach the poll's entry.
    pub incomplete_stacks: u64,
    /// Stacks dropped before they were unwound, mostly for want of room; their poll has others
    /// then, if there was any room at all.
    pub stacks: u64,
    /// Threads whose stack could not be followed at the attach, although it may hold a poll that
    /// began before.
    #[serde(default)]
    pub unwalked_threads: u64,
    /// Frames without a name.
    pub unresolved_frames: u64,
    /// Events that an output which did not keep up was not given.
    #[serde(default)]
    pub unwritten_events: u64,
    /// Poll sites of libraries loaded later for which there was no room.
    pub sites: u64,
    /// Tasks whose wake found no room in the table of those.
    pub wakes: u64,
}

impl Lost {
    /// The counters of what was lost, with their names in the JSON. A frame without a name is no
    /// loss: a stripped program has nothing else.
    pub fn by_kind(&self) -> Vec<(String, u64)> {
        let Ok(serde_json::Value::Object(mut counters)) = serde_json::to_value(self) else {
            return Vec::new();
        };
        counters.remove("unresolved_frames");
        counters
            .into_iter()
            .filter_map(|(name, count)| Some((name, count.as_u64()?)))
            .collect()
    }

    /// Whether nothing was lost.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another session of the same process has lost.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            events,
            too_deep,
            unmatched_ends,
            unmatched_starts,
            threads,
            unknown_types,
            unnamed_polls,
            unreadable,
            thread_exits,
            switches,
            undecided,
            incomplete_stacks,
            stacks,
            unwalked_threads,
            unresolved_frames,
            unwritten_events,
            sites,
            wakes,
        } = self;
        *events += other.events;
        *too_deep += other.too_deep;
        *unmatched_ends += other.unmatched_ends;
        *unmatched_starts += other.unmatched_starts;
        *threads += other.threads;
        *unknown_types += other.unknown_types;
        *unnamed_polls += other.unnamed_polls;
        *unreadable += other.unreadable;
        *thread_exits += other.thread_exits;
        *switches += other.switches;
        *undecided += other.undecided;
        *incomplete_stacks += other.incomplete_stacks;
        *stacks += other.stacks;
        *unwalked_threads += other.unwalked_threads;
        *unresolved_frames += other.unresolved_frames;
        *unwritten_events += other.unwritten_events;
        *sites += other.sites;
        *wakes += other.wakes;
    }
}

/// The polls of one task type. What is `None` is not known: see [`Summary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Which type.
    #[serde(flatten)]
    pub task: TaskType,
    /// How many polls (of a blocking-pool closure: how many began).
    pub polls: Option<u64>,
    /// Their total, in nanoseconds. Blocking-pool closures are counted, not timed.
    pub total_ns: Option<u64>,
    /// Median; relative error at most 12.5 %.
    pub p50_ns: Option<u64>,
    /// 99th percentile; relative error at most 12.5 %.
    pub p99_ns: Option<u64>,
    /// The longest, exact.
    pub max_ns: u64,
    /// How many were at or over the threshold.
    pub long: u64,
    /// How long its tasks waited for their polls, where that was measured. What is not known of
    /// single polls is not known by type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_to_poll: Option<WakeToPoll>,
}

/// Long polls with the same task type, cause and blocking call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The task type's name.
    pub task: String,
    /// Why.
    pub cause: Cause,
    /// The blocking call.
    pub call: Option<String>,
    /// Where it stands.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub location: Option<SourceLocation>,
    /// How many.
    pub count: u64,
    /// Their total, in nanoseconds.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The tasks that waited behind them, where that is measured (`--lag`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
}

/// Tasks that were ready to be polled by a thread while it was in long polls, and waited for at
/// least the threshold in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// How many, each time anew.
    pub count: u64,
    /// For how much of those long polls, in nanoseconds.
    pub total_ns: u64,
}

/// What observation cost: CPU time of the kernel side, on whichever thread's account the kernel
/// puts it. The four parts add up to the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeCost {
    /// Nanoseconds that a poll's probes add when polls follow each other quickly, measured at the
    /// attach on this machine.
    pub ns_per_poll: f64,
    /// Total over the session, in nanoseconds of CPU time.
    pub total_ns: u64,
    /// Of it, probes: of polls, of the event loop's waits, of closures on the blocking pool; dearer
    /// where the thread came from waiting.
    #[serde(default)]
    pub probes_ns: u64,
    /// Of it, following the target's threads off and on their CPUs, and their wake-ups.
    #[serde(default)]
    pub scheduler_ns: u64,
    /// Of it, stacks of threads that waited.
    #[serde(default)]
    pub stacks_ns: u64,
    /// Of it, samples, with their stacks.
    #[serde(default)]
    pub samples_ns: u64,
    /// Time between the entry probe's clock reading and the beginning of a long poll, in
    /// nanoseconds. Taken off.
    #[serde(default)]
    pub dead_start_ns: u64,
    /// Time between the end of a long poll and the return probe's clock reading, in nanoseconds.
    /// Taken off.
    #[serde(default)]
    pub dead_end_ns: u64,
}

impl Eq for ProbeCost {}

impl ProbeCost {
    /// Adds what another session of the same process has cost.
    pub(crate) fn add(&mut self, other: &Self) {
        self.ns_per_poll = self.ns_per_poll.max(other.ns_per_poll);
        self.total_ns += other.total_ns;
        self.probes_ns += other.probes_ns;
        self.scheduler_ns += other.scheduler_ns;
        self.stacks_ns += other.stacks_ns;
        self.samples_ns += other.samples_ns;
        self.dead_start_ns = self.dead_start_ns.max(other.dead_start_ns);
        self.dead_end_ns = self.dead_end_ns.max(other.dead_end_ns);
    }

    /// In nanoseconds of CPU time, by what it went to.
    pub fn by_part(&self) -> [(&'static str, u64); 4] {
        [
            ("probes", self.probes_ns),
            ("scheduler", self.scheduler_ns),
            ("stacks", self.stacks_ns),
            ("samples", self.samples_ns),
        ]
    }
}

/// The end of a session. What is `None` is not known, because the recording was cut off: of polls
/// that were not long it has nothing but the counts that come with its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Why the session ended: `interrupted`, `duration`, `target exited`, ...
    pub reason: String,
    /// How long it was, in nanoseconds.
    pub duration_ns: u64,
    /// Polls of async tasks.
    pub polls: Option<u64>,
    /// Polls of blocking-pool closures.
    pub blocking_polls: Option<u64>,
    /// Median over all async polls; relative error at most 12.5 %.
    pub p50_ns: Option<u64>,
    /// 99th percentile; relative error at most 12.5 %.
    pub p99_ns: Option<u64>,
    /// The longest async poll, exact.
    pub max_ns: Option<u64>,
    /// Async and root polls at or over the threshold.
    pub long_polls: u64,
    /// The sum of their durations.
    pub long_ns: u64,
    /// Where polls are watched: how often a poll may have been that long, but is not for certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub possible_long_polls: Option<u64>,
    /// Where threads are watched, and types that are suspect timed exactly for a while: how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks: Option<Box<Looks>>,
    /// How much time of workers that was: a poll inside another long one took no more of it.
    #[serde(default)]
    pub worker_ns: Option<u64>,
    /// Threads that polled async tasks, or on which another long poll was seen.
    pub workers: Option<u64>,
    /// Long stretches of threads that call `block_on` which were, at least in part, not under it.
    /// They are no polls.
    #[serde(default)]
    pub outside_runtime: u64,
    /// How much of them was not a root future's, in nanoseconds.
    #[serde(default)]
    pub outside_runtime_ns: u64,
    /// What was lost.
    pub lost: Option<Lost>,
    /// What the probes cost, where it could be measured.
    pub cost: Option<ProbeCost>,
    /// Whether loopprobe's own check came out. Older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// How much of what is probed was seen to work. Older versions do not say; nothing is probed
    /// where threads are watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Box<Coverage>>,
    /// What was left out to keep to a budget, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Box<Budget>>,
    /// How long tasks waited for their polls, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake_to_poll: Option<Box<WakeToPoll>>,
    /// By task type, most total time first.
    pub tasks: Vec<TaskSummary>,
    /// Long polls by task type, cause and call, worst first.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// What was found wrong with the loop as a whole, by kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingCount>,
    /// Of a session in which no task was polled: what the process did instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_polls: Option<NoPolls>,
    /// What every thread did when the session ended, where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<ThreadState>,
}

/// The findings of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingCount {
    /// Which.
    pub kind: FindingKind,
    /// How many.
    pub count: u64,
}

impl FindingCount {
    /// Counts one more of a kind.
    pub fn add(counts: &mut Vec<Self>, kind: FindingKind) {
        match counts.iter_mut().find(|count| count.kind == kind) {
            Some(found) => found.count += 1,
            None => counts.push(Self { kind, count: 1 }),
        }
    }
}
