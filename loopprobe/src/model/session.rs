//! The head of the stream of events, and the list of all that can follow it.

use serde::{Deserialize, Serialize};

use super::{Finding, Interval, LongPoll, Placement, Step, Summary};

/// How polls are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A probe where each poll begins, and one where it returns.
    #[default]
    Exact,
    /// Probes where polls begin alone: entry-only timing.
    Light,
    /// No probes: a thread's own variables are read when it goes off its CPU, and in samples.
    Watch,
    /// As [`Self::Watch`], but types whose polls are or may be long are probed for a while.
    Auto,
}

impl Mode {
    /// Whether each poll is counted; else only long ones are known.
    pub fn counts_polls(self) -> bool {
        !matches!(self, Self::Watch | Self::Auto)
    }
}

/// The head of a session: what is observed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Version of the JSON schema: [`Session::SCHEMA`].
    pub schema: u32,
    /// loopprobe's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Where the machine has put it.
    #[serde(default, skip_serializing_if = "Placement::is_empty")]
    pub placement: Placement,
    /// When observation began (`CLOCK_MONOTONIC`, nanoseconds).
    pub start_ns: u64,
    /// When observation began (nanoseconds since the Unix epoch).
    pub start_unix_ns: u64,
    /// Polls at least this long are reported, in nanoseconds.
    pub threshold_ns: u64,
    /// How polls are seen. Older versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// How many poll sites are probed.
    pub sites: usize,
    /// How many task types those sites serve.
    pub task_types: usize,
    /// Tokio's versions, where known: `1.44.2`.
    pub tokio: Vec<String>,
    /// Other runtimes, with their versions where known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtimes: Vec<String>,
    /// What this session cannot see, a sentence each.
    pub limits: Vec<String>,
}

impl Session {
    /// The version of the JSON schema that this build writes.
    pub const SCHEMA: u32 = 1;
}

/// Something that a user should know, beside the polls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When (`CLOCK_MONOTONIC`, nanoseconds).
    pub time_ns: u64,
    /// A sentence.
    pub message: String,
    /// Polls at least this long are reported from now on, in nanoseconds, if that has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_ns: Option<u64>,
    /// How much is observed from now on, if that has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
}

/// What a session yields, in order: one `Session`, any number of the others, one `Summary`. One
/// JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The head.
    Session(Session),
    /// A poll at or over the threshold.
    LongPoll(LongPoll),
    /// A remark: the target executed another program, a library was loaded, ...
    Notice(Notice),
    /// Values over time, as often as was asked for.
    Interval(Interval),
    /// Something that is wrong with a loop as a whole.
    Finding(Finding),
    /// The end.
    Summary(Summary),
}
