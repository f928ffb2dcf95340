//! What a target says of its own polls.

use std::collections::HashMap;

use serde::Deserialize;

/// One poll, recorded by the target itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Poll {
    /// The task's label.
    pub label: String,
    /// `async`, `root`, `blocking`, or `span` for a part of a poll.
    pub kind: String,
    /// The task's id, where it has one.
    pub task_id: Option<u64>,
    /// The thread, as the target's pid namespace shows it.
    pub tid: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub start_ns: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub end_ns: u64,
    /// The thread's CPU time in between, nanoseconds.
    pub cpu_ns: u64,
    /// How often the thread had been preempted when the poll began.
    pub preempted_at_start: u64,
    /// How often when it ended.
    pub preempted_at_end: u64,
    /// Whether the future was done with it: then Tokio completes the task before it ends the poll.
    pub ready: bool,
    /// Whether it went through `block_in_place`.
    pub block_in_place: bool,
    /// How long it meant to wait or compute, where it says so, else 0, in nanoseconds.
    pub asked_ns: u64,
}

impl Poll {
    /// How long it took, in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }
}

/// Marks, for each poll, whether its thread was preempted between it and the polls before and after
/// it on that thread.
///
/// There a kernel probe and the target's own clock can be far apart, and neither is wrong.
pub fn disturbed(polls: &[Poll]) -> Vec<bool> {
    let mut threads: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, poll) in polls.iter().enumerate() {
        threads.entry(poll.tid).or_default().push(index);
    }
    let mut marks = vec![false; polls.len()];
    for mut indices in threads.into_values() {
        indices.sort_by_key(|&index| polls[index].start_ns);
        for pair in indices.windows(2) {
            let (before, after) = (&polls[pair[0]], &polls[pair[1]]);
            if before.preempted_at_end != after.preempted_at_start {
                marks[pair[0]] = true;
                marks[pair[1]] = true;
            }
        }
    }
    marks
}
