//! How much arrived at a receiver and how much was lost, and why.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::report::words;

/// What became of what was to be sent. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<Tally>>);

/// By what it is: spans, profiles, ...
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    kinds: BTreeMap<&'static str, Outcome>,
    /// Events that found the queue full, or were in it still when nobody waited any longer.
    unqueued: u64,
    /// The last failure, for people.
    last_failure: Option<String>,
    is_over: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcome {
    sent: u64,
    lost: u64,
    pending: u64,
}

impl Counts {
    /// What it is now.
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    /// So many more are to be sent. `kind` is the word for one of them.
    pub fn expect(&self, kind: &'static str, count: usize) {
        self.change(kind, |outcome| outcome.pending += count as u64);
    }

    /// So many were taken.
    pub fn sent(&self, kind: &'static str, count: u64) {
        self.change(kind, |outcome| {
            outcome.sent += count;
            outcome.pending = outcome.pending.saturating_sub(count);
        });
    }

    /// So many were not.
    pub fn lost(&self, kind: &'static str, count: u64, why: String) {
        if count > 0 {
            self.change(kind, |outcome| {
                outcome.lost += count;
                outcome.pending = outcome.pending.saturating_sub(count);
            });
            self.lock().last_failure = Some(why);
        }
    }

    /// How many were lost, of all kinds, without those that were never taken from the queue.
    pub(super) fn all_lost(&self) -> u64 {
        self.lock().kinds.values().map(|outcome| outcome.lost).sum()
    }

    /// Nobody waits any longer: `unqueued` events were lost before they came this far, and what is
    /// on its way counts as lost.
    pub(super) fn end(&self, unqueued: u64, failure: Option<String>) {
        let mut tally = self.lock();
        tally.is_over = true;
        tally.unqueued = unqueued;
        for outcome in tally.kinds.values_mut() {
            outcome.lost += std::mem::take(&mut outcome.pending);
        }
        if tally.last_failure.is_none() {
            tally.last_failure = failure;
        }
    }

    fn change(&self, kind: &'static str, change: impl FnOnce(&mut Outcome)) {
        let mut tally = self.lock();
        if !tally.is_over {
            change(tally.kinds.entry(kind).or_default());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    /// Whether something that was to be sent has not arrived.
    pub fn is_incomplete(&self) -> bool {
        self.unqueued > 0 || self.kinds.values().any(|outcome| outcome.lost > 0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |count: fn(&Outcome) -> u64| {
            let kinds = self.kinds.iter().filter(|(_, outcome)| count(outcome) > 0);
            let parts: Vec<_> = kinds
                .map(|(kind, outcome)| words::count(count(outcome), kind))
                .collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        };
        let sent = all(|outcome| outcome.sent);
        write!(f, "{} sent", sent.as_deref().unwrap_or("nothing"))?;
        if let Some(lost) = all(|outcome| outcome.lost) {
            write!(f, "; {lost} lost")?;
        }
        if self.unqueued > 0 {
            let events = words::count(self.unqueued, "event");
            write!(f, "; {events} dropped: the receiver was too slow")?;
        }
        match &self.last_failure {
            Some(failure) => write!(f, " (last: {failure})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_at_the_end_is_lost() {
        let counts = Counts::default();
        counts.expect("span", 10);
        counts.sent("span", 4);
        counts.lost("span", 1, "503".to_owned());
        assert_eq!(
            counts.tally().to_string(),
            "4 spans sent; 1 span lost (last: 503)"
        );
        counts.end(2, Some("late".to_owned()));
        counts.sent("span", 5);
        let tally = counts.tally();
        assert!(tally.is_incomplete());
        assert_eq!(
            tally.to_string(),
            "4 spans sent; 6 spans lost; 2 events dropped: the receiver was too slow (last: 503)"
        );
    }

    #[test]
    fn nothing_lost_is_complete() {
        let counts = Counts::default();
        assert_eq!(counts.tally().to_string(), "nothing sent");
        counts.expect("span", 1);
        counts.sent("span", 1);
        assert!(!counts.tally().is_incomplete());
    }
}
