//! What an alert says, as JSON and as environment variables of a hook.

use serde::Serialize;

use crate::{
    model::{Cause, Finding, FoundPoll, LongPoll, Placement},
    report::clean,
};

/// How bad a long poll is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// From `--warn` on.
    Warning,
    /// From `--critical` on.
    Critical,
}

impl Level {
    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Which of an alert's events it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// A poll has passed a level; it may be open still (`ended`).
    Alert,
    /// That poll is over.
    AlertEnd,
    /// Something is wrong with the loop as a whole.
    Finding,
}

impl When {
    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::AlertEnd => "alert_end",
            Self::Finding => "finding",
        }
    }
}

/// What is delivered.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Told {
    /// Of a long poll.
    Poll(Box<AlertEvent>),
    /// A finding.
    Finding(Box<FindingEvent>),
}

impl Told {
    /// What belongs together: its deliveries follow each other.
    pub(super) fn subject(&self) -> u64 {
        match self {
            Self::Poll(event) => u64::from(event.poll.tid).wrapping_add(event.poll.start_ns),
            Self::Finding(event) => event.finding.time_ns,
        }
    }

    /// The environment of a hook.
    pub(super) fn environment(&self) -> [(&'static str, String); 8] {
        match self {
            Self::Poll(event) => event.environment(),
            Self::Finding(event) => event.environment(),
        }
    }
}

/// A finding. As JSON: the fields of a `finding` event, with the ones below before them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FindingEvent {
    /// Always `finding`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Always `finding`.
    pub event: When,
    /// How bad.
    pub level: Level,
    /// The process's name.
    pub process: String,
    /// Where the machine has put it.
    #[serde(skip_serializing_if = "Placement::is_empty")]
    pub placement: Placement,
    /// When it was found, in nanoseconds since the Unix epoch.
    pub unix_ns: u64,
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
}

impl FindingEvent {
    fn environment(&self) -> [(&'static str, String); 8] {
        let evidence = &self.finding.evidence;
        let poll = evidence.polls.first();
        let tid = evidence.tid.or(poll.map(|poll| poll.tid));
        let task = evidence.task.as_ref().or(poll.map(|poll| &poll.task));
        let call = poll.and_then(|poll: &FoundPoll| poll.call.as_ref());
        let cause = poll.and_then(|poll| poll.cause).unwrap_or(Cause::Unknown);
        let text = |text: Option<&String>| text.map_or_else(String::new, |t| clean(t).into_owned());
        [
            ("LOOPPROBE_EVENT", self.event.name().to_owned()),
            ("LOOPPROBE_LEVEL", self.level.name().to_owned()),
            ("LOOPPROBE_PID", self.finding.pid.to_string()),
            (
                "LOOPPROBE_TID",
                tid.map_or_else(String::new, |tid| tid.to_string()),
            ),
            ("LOOPPROBE_TASK", text(task)),
            ("LOOPPROBE_CAUSE", cause.name()),
            ("LOOPPROBE_CALL", text(call)),
            ("LOOPPROBE_DURATION_NS", evidence.duration_ns.to_string()),
        ]
    }
}

/// A long poll. As JSON: the fields of a `long_poll` event, with the ones below before them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AlertEvent {
    /// Always `alert`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Which.
    pub event: When,
    /// How bad.
    pub level: Level,
    /// How bad it was said to be before; `None` in a poll's first alert.
    #[serde(skip)]
    pub before: Option<Level>,
    /// The process's name.
    pub process: String,
    /// Where the machine has put it.
    #[serde(skip_serializing_if = "Placement::is_empty")]
    pub placement: Placement,
    /// When the poll began, in nanoseconds since the Unix epoch.
    pub start_unix_ns: u64,
    /// The poll.
    #[serde(flatten)]
    pub poll: LongPoll,
}

impl AlertEvent {
    /// The task type's name. Names come from the target's file: no control character of theirs may
    /// reach a terminal.
    pub(super) fn task(&self) -> String {
        clean(&self.poll.task.name).into_owned()
    }

    /// The cause, as in the JSON.
    pub(super) fn cause(&self) -> String {
        let diagnosis = self.poll.diagnosis.as_ref();
        diagnosis.map_or(Cause::Unknown, |found| found.cause).name()
    }

    /// The blocking call; empty where it is not known.
    pub(super) fn call(&self) -> String {
        let call = self.poll.diagnosis.as_ref().and_then(|d| d.call.as_ref());
        call.map_or_else(String::new, |call| clean(&call.function).into_owned())
    }

    fn environment(&self) -> [(&'static str, String); 8] {
        let poll = &self.poll;
        [
            ("LOOPPROBE_EVENT", self.event.name().to_owned()),
            ("LOOPPROBE_LEVEL", self.level.name().to_owned()),
            ("LOOPPROBE_PID", poll.pid.to_string()),
            ("LOOPPROBE_TID", poll.tid.to_string()),
            ("LOOPPROBE_TASK", self.task()),
            ("LOOPPROBE_CAUSE", self.cause()),
            ("LOOPPROBE_CALL", self.call()),
            ("LOOPPROBE_DURATION_NS", poll.duration_ns.to_string()),
        ]
    }
}
