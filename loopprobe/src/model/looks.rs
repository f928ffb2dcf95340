//! The closer looks of a session that otherwise watches.

use serde::{Deserialize, Serialize};

/// What a session with [`super::Mode::Auto`] has timed exactly, for a while at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looks {
    /// How often exact probes were placed.
    pub count: u64,
    /// For how long there were any, in nanoseconds.
    pub duration_ns: u64,
    /// At how many poll sites at a time, at the most.
    pub most_sites: u64,
    /// How many polls were timed exactly.
    pub polls: u64,
    /// How many of them were at or over the threshold.
    pub long_polls: u64,
}
