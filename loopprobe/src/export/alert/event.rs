use serde::Serialize;

use crate::model::{Cause, LongPoll};

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
    /// The process's name.
    pub process: String,
    /// When the poll began, in nanoseconds since the Unix epoch.
    pub start_unix_ns: u64,
    /// The poll.
    #[serde(flatten)]
    pub poll: LongPoll,
}

impl AlertEvent {
    /// The environment of a hook.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let poll = &self.poll;
        let diagnosis = poll.diagnosis.as_ref();
        let call = diagnosis.and_then(|found| found.call.as_ref());
        vec![
            ("LOOPPROBE_EVENT", self.event.name().to_owned()),
            ("LOOPPROBE_LEVEL", self.level.name().to_owned()),
            ("LOOPPROBE_PID", poll.pid.to_string()),
            ("LOOPPROBE_TID", poll.tid.to_string()),
            ("LOOPPROBE_TASK", plain(&poll.task.name)),
            (
                "LOOPPROBE_CAUSE",
                diagnosis.map_or(Cause::Unknown, |found| found.cause).name(),
            ),
            (
                "LOOPPROBE_CALL",
                call.map_or_else(String::new, |call| plain(&call.function)),
            ),
            ("LOOPPROBE_DURATION_NS", poll.duration_ns.to_string()),
        ]
    }
}

/// Names come from the target's file: no NUL may reach an environment, and no control character a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
