//! Whether loopprobe's own check came out: proof that silence means health.

use serde::{Deserialize, Serialize};

/// The check of a session: a known block in loopprobe's own process, which must come out at the far
/// end as a long poll with its stack and its cause. It is in no figure of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Whether the last one that is decided came out; `None` before the first.
    pub ok: Option<bool>,
    /// How many are decided.
    pub checks: u64,
    /// How many of them did not come out whole.
    pub failed: u64,
    /// How long the last block was, in nanoseconds.
    pub block_ns: u64,
    /// What did not come out of the last one that failed: `poll`, `duration`, `stack`, `cause`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Why there is no check, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_checked: Option<String>,
}

/// How much of what is probed was seen to work in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Poll sites that are probed.
    pub sites: u64,
    /// How many of them were seen to fire: a poll of one of their task types was counted.
    pub sites_fired: u64,
    /// Whether the futures given to `block_on` are covered, as far as that is known: not where the
    /// session's limits say otherwise.
    pub root_future: bool,
    /// For how long those were watched that are not covered, in nanoseconds: their polls that wait
    /// are told, between bounds.
    #[serde(default)]
    pub roots_watched_ns: u64,
}
