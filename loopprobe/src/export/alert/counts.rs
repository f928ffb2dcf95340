//! How many deliveries arrived, failed or were left out, and why.

use std::sync::{Arc, Mutex, PoisonError};

/// What became of a session's alerts. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<Tally>>);

/// By outcome, a delivery each: a poll with two commands and a URL has three an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// They were taken.
    pub delivered: u64,
    /// They were refused, or ended with an error.
    pub failed: u64,
    /// Left out because there were too many a minute.
    pub over_rate: u64,
    /// Left out because too many were under way.
    pub busy: u64,
    /// The last failure, for people.
    pub last_failure: Option<String>,
}

impl Counts {
    /// What it is now.
    pub fn tally(&self) -> Tally {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Counts one more.
    pub(super) fn add(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Tally {
    /// Whether one that was due has not arrived.
    pub fn is_incomplete(&self) -> bool {
        self.failed + self.over_rate + self.busy > 0
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} delivered", self.delivered)?;
        for (count, what) in [
            (self.failed, "failed"),
            (self.over_rate, "left out: over --alert-rate"),
            (self.busy, "left out: too many under way"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        match &self.last_failure {
            Some(failure) => write!(f, " (last: {failure})"),
            None => Ok(()),
        }
    }
}
