use serde::Serialize;

use crate::{
    model::{Cause, LongPoll},
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
}

impl When {
    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::AlertEnd => "alert_end",
        }
    }
}

/// What is delivered. As JSON: the fields of a `long_poll` event, with the ones below before them.
#[derive(Clone, Debug, Serialize)]
pub struct AlertEvent {
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
    /// When the poll began, in nanoseconds since the Unix epoch.
    pub start_unix_ns: u64,
    /// The poll.
    #[serde(flatten)]
    pub poll: LongPoll,
}

impl AlertEvent {
    /// The task type's name. Names come from the target's file: no control character of theirs may reach a terminal.
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

    /// The environment of a hook.
    pub(super) fn environment(&self) -> [(&'static str, String); 8] {
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
