//! How much observation may cost, and what was left out to keep to it.

use serde::{Deserialize, Serialize};

/// How much is observed at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// All that was asked for.
    #[default]
    Full,
    /// No stacks are taken: long polls have no causes.
    NoStacks,
    /// Polls are timed by their entries alone, without stacks.
    EntryOnly,
    /// The probes are taken away: polls are watched, and told between bounds.
    Watched,
    /// The probes are taken away: nothing is seen.
    Paused,
}

impl Step {
    /// All of them, the fullest first.
    pub const ALL: [Self; 5] = [
        Self::Full,
        Self::NoStacks,
        Self::EntryOnly,
        Self::Watched,
        Self::Paused,
    ];

    /// Whether the probes are in their places.
    pub fn is_probed(self) -> bool {
        !matches!(self, Self::Watched | Self::Paused)
    }

    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::NoStacks => "no_stacks",
            Self::EntryOnly => "entry_only",
            Self::Watched => "watched",
            Self::Paused => "paused",
        }
    }
}

/// What `--max-overhead` has led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// How much of the process's CPU time observation may cost, 0 to 1.
    pub share: f64,
    /// How much is observed now, or was at the end.
    pub step: Step,
    /// How often less was observed from then on.
    pub steps_down: u64,
    /// How often more was.
    pub steps_up: u64,
    /// For how long no stacks were taken, in nanoseconds; without [`Self::entry_only_ns`].
    pub no_stacks_ns: u64,
    /// For how long polls were timed by their entries alone, without stacks, in nanoseconds.
    #[serde(default)]
    pub entry_only_ns: u64,
    /// For how long polls were watched instead of timed, in nanoseconds.
    #[serde(default)]
    pub watched_ns: u64,
    /// How many polls may have been long in that time, but are not for certain.
    #[serde(default)]
    pub possible_long_polls: u64,
    /// For how long nothing was seen at all, in nanoseconds.
    pub paused_ns: u64,
    /// Polls that were open when the probes were taken away: they are in no figure.
    pub cut_polls: u64,
}

impl Budget {
    /// What was left out, as it is called in the metrics, and for how long, in nanoseconds.
    pub fn left_out(&self) -> [(&'static str, u64); 3] {
        [
            (
                "stacks",
                self.no_stacks_ns.saturating_add(self.entry_only_ns),
            ),
            ("timing", self.watched_ns),
            ("polls", self.paused_ns),
        ]
    }

    /// For how long the probes were away, in nanoseconds.
    pub fn unprobed_ns(&self) -> u64 {
        self.watched_ns.saturating_add(self.paused_ns)
    }
}

impl Eq for Budget {}
