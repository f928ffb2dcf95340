//! `--threshold auto`: fits the threshold to the far tail of a process.

use std::time::Duration;

use super::Options;
use crate::{clock::nanoseconds, model::Distribution};

/// Between which bounds the threshold is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoThreshold {
    /// Not below this.
    pub at_least: Duration,
    /// Not above this.
    pub at_most: Duration,
}

impl Default for AutoThreshold {
    fn default() -> Self {
        Self {
            // What is shorter hardly delays anybody, and its stacks would cost more than they tell.
            at_least: Duration::from_millis(1),
            // What is longer is long for any event loop, however common it is in this one.
            at_most: Duration::from_millis(100),
        }
    }
}

impl AutoThreshold {
    /// Until the first fit.
    pub(super) fn first(self) -> Duration {
        Options::DEFAULT_THRESHOLD
            .max(self.at_least)
            .min(self.at_most)
    }

    fn bound(self, threshold_ns: u64) -> u64 {
        threshold_ns
            .max(nanoseconds(self.at_least))
            .min(nanoseconds(self.at_most))
    }
}

/// One poll of so many is in the far tail.
const ONE_OF: u64 = 1_000;
/// Of fewer polls the far tail is not known.
const ENOUGH: u64 = ONE_OF;
/// How long polls are counted before the first fit, at the least.
const FIRST: Duration = Duration::from_secs(3);
/// How often it is looked whether the threshold still fits.
const EVERY: Duration = Duration::from_secs(10);
/// A threshold that is this many times too large or too small no longer fits.
const TOLERANCE: f64 = 1.5;

/// Follows a process's polls.
#[derive(Debug)]
pub(super) struct Fitting {
    bounds: AutoThreshold,
    next_ns: u64,
    /// The polls up to the last fit.
    seen: Distribution,
    is_first: bool,
}

/// A new threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// In nanoseconds.
    pub threshold_ns: u64,
    /// Of so many polls.
    pub polls: u64,
}

impl Fitting {
    /// Begins with the session.
    pub(super) fn new(bounds: AutoThreshold, start_ns: u64) -> Self {
        Self {
            bounds,
            next_ns: start_ns.saturating_add(nanoseconds(FIRST)),
            seen: Distribution::default(),
            is_first: true,
        }
    }

    /// Between which bounds.
    pub(super) fn bounds(&self) -> AutoThreshold {
        self.bounds
    }

    /// Whether to look at the polls now.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns
    }

    /// The threshold that fits the polls since the last fit, if it is the first one, or another one
    /// than `current_ns`.
    pub(super) fn fit(
        &mut self,
        durations: &Distribution,
        current_ns: u64,
        now_ns: u64,
    ) -> Option<Fit> {
        let recent = durations.since(&self.seen);
        if recent.count < ENOUGH {
            return None;
        }
        self.next_ns = now_ns.saturating_add(nanoseconds(EVERY));
        self.seen = durations.clone();
        let tail_ns = recent.longest(recent.count / ONE_OF);
        let threshold_ns = self.bounds.bound(tail_ns);
        let ratio = threshold_ns as f64 / current_ns.max(1) as f64;
        let fits = (1.0 / TOLERANCE..=TOLERANCE).contains(&ratio);
        let is_first = std::mem::take(&mut self.is_first);
        (is_first || !fits).then_some(Fit {
            threshold_ns,
            polls: recent.count,
        })
    }
}

impl Fit {
    /// Why it is this one, for the report.
    pub(super) fn why(&self, bounds: AutoThreshold) -> String {
        let threshold = Duration::from_nanos(self.threshold_ns);
        if threshold <= bounds.at_least {
            "the least that --threshold auto chooses".to_owned()
        } else if threshold >= bounds.at_most {
            "the most that --threshold auto chooses here".to_owned()
        } else {
            let polls = self.polls;
            format!("at most one in {ONE_OF} of the last {polls} polls took longer")
        }
    }
}

#[cfg(test)]
mod tests {
    use loopprobe_common::histogram::{Stats, bucket};

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    fn polls(counts: &[(u64, u32)]) -> Distribution {
        let mut stats = Stats::default();
        for (ns, count) in counts {
            stats.polls += u64::from(*count);
            stats.buckets[bucket(*ns)] += count;
        }
        Distribution::from(&stats)
    }

    fn fitting() -> Fitting {
        Fitting::new(AutoThreshold::default(), 0)
    }

    fn fit(counts: &[(u64, u32)], current_ns: u64) -> Option<u64> {
        let fit = fitting().fit(&polls(counts), current_ns, 3 * SECOND);
        fit.map(|fit| fit.threshold_ns)
    }

    #[test]
    fn one_poll_in_a_thousand_is_longer() {
        // As many as may be longer, and then one poll more.
        let short = (50_000, 99_900);
        assert_eq!(fit(&[short, (30 * MS, 99)], 10 * MS), Some(MS));
        let more = fit(&[short, (30 * MS, 900), (60 * MS, 100)], 10 * MS).unwrap();
        assert!((30 * MS..38 * MS).contains(&more), "{more}");
    }

    #[test]
    fn it_is_bounded() {
        assert_eq!(fit(&[(50_000, 100_000)], 10 * MS), Some(MS));
        assert_eq!(fit(&[(2 * SECOND, 100_000)], 10 * MS), Some(100 * MS));
    }

    #[test]
    fn few_polls_tell_nothing() {
        assert_eq!(fit(&[(50_000, 999)], 10 * MS), None);
    }

    #[test]
    fn it_changes_only_when_it_no_longer_fits_the_polls_since() {
        let mut fitting = fitting();
        assert!(!fitting.is_due(2 * SECOND) && fitting.is_due(3 * SECOND));
        let (short, long) = (
            polls(&[(50_000, 5_000)]),
            polls(&[(50_000, 5_000), (40 * MS, 5_000)]),
        );
        assert_eq!(
            fitting
                .fit(&short, 10 * MS, 3 * SECOND)
                .unwrap()
                .threshold_ns,
            MS
        );
        assert!(!fitting.is_due(12 * SECOND) && fitting.is_due(13 * SECOND));
        let fit = fitting.fit(&long, MS, 13 * SECOND).unwrap();
        assert!((30 * MS..=50 * MS).contains(&fit.threshold_ns), "{fit:?}");
        assert_eq!(fit.polls, 5_000);
        let again = polls(&[(50_000, 5_000), (40 * MS, 10_000)]);
        assert_eq!(fitting.fit(&again, fit.threshold_ns, 23 * SECOND), None);
    }
}
