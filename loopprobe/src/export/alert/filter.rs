//! Which polls and findings alert, at which level: by duration, type pattern and cause.

use std::time::Duration;

use wildmatch::WildMatch;

use super::Level;
use crate::{
    clock::nanoseconds,
    model::{Cause, Finding, FindingKind, LongPoll},
};

/// From which duration on a poll is how bad, as far as that was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// The first alert; `None` for the threshold.
    pub warn: Option<Duration>,
    /// The second level; `None` for ten times the first.
    pub critical: Option<Duration>,
}

impl Levels {
    /// The first level of a session with this threshold.
    pub fn warn(&self, threshold: Duration) -> Duration {
        self.warn.unwrap_or(threshold)
    }

    /// The second; not below the first.
    pub fn critical(&self, threshold: Duration) -> Duration {
        let warn = self.warn(threshold);
        self.critical.unwrap_or(warn * 10).max(warn)
    }
}

/// `api::upload*=200ms`: polls of matching types alert from another duration on.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeThreshold {
    /// Of task types' names; `*` and `?` are wildcards.
    pub pattern: String,
    /// The duration.
    pub at: Duration,
}

/// Which long polls alert, and how loudly.
#[derive(Clone, Debug)]
pub struct Filter {
    levels: Levels,
    /// The session's.
    threshold: Duration,
    /// Whether that is fitted to the process.
    is_fitted: bool,
    of_types: Vec<(WildMatch, Duration)>,
    ignored: Vec<WildMatch>,
    /// Only these; all if it is empty.
    causes: Vec<Cause>,
}

impl Filter {
    /// Polls from `levels` on, with the session's threshold and whether that is fitted to the
    /// process; of types by their own thresholds, without the `ignored` ones, and with one of
    /// `causes` if there are any.
    pub fn new(
        levels: Levels,
        (threshold, is_fitted): (Duration, bool),
        of_types: &[TypeThreshold],
        ignored: &[String],
        causes: &[Cause],
    ) -> Self {
        Self {
            levels,
            threshold,
            is_fitted,
            of_types: of_types
                .iter()
                .map(|own| (WildMatch::new(&own.pattern), own.at))
                .collect(),
            ignored: ignored.iter().map(|p| WildMatch::new(p)).collect(),
            causes: causes.to_vec(),
        }
    }

    /// The session's threshold is another one from now on.
    pub(super) fn follow(&mut self, threshold: Duration) {
        self.threshold = threshold;
    }

    /// Takes the place of `before`, with what that has seen of a fitted threshold.
    pub(super) fn succeed(&mut self, before: &Self) {
        if self.is_fitted && before.is_fitted {
            self.threshold = before.threshold;
        }
    }

    /// The level of a poll; `None` if it does not alert (yet).
    pub fn level(&self, poll: &LongPoll) -> Option<Level> {
        if poll.is_blameless() || self.ignored.iter().any(|p| is_named(p, poll)) {
            return None;
        }
        if !self.causes.is_empty() {
            let cause = poll.diagnosis.as_ref().map_or(Cause::Unknown, |d| d.cause);
            if !self.causes.contains(&cause) {
                return None;
            }
        }
        self.level_at(poll.duration_ns, |pattern| is_named(pattern, poll))
    }

    /// The level of a finding; `None` if all that it is about is silent, or it is not long enough
    /// for any of it. What does not end by itself is critical at once, a busy or stuck task, a
    /// lock that nobody takes, a leak, an exhausted pool and a runtime that does not end a warning.
    pub fn level_of(&self, finding: &Finding) -> Option<Level> {
        let evidence = &finding.evidence;
        let is_of_no_task = match finding.kind {
            FindingKind::PoolExhausted | FindingKind::Shutdown => true,
            FindingKind::Futurelock => evidence.task.is_none(),
            _ => false,
        };
        if is_of_no_task {
            // It is about no task's type or cause.
            return self.causes.is_empty().then_some(Level::Warning);
        }
        let own = evidence.task.iter().map(|task| (task, Cause::Unknown));
        let polls = evidence.polls.iter();
        let polls = polls.map(|poll| (&poll.task, poll.cause.unwrap_or(Cause::Unknown)));
        let speaking = own.chain(polls).filter(|(task, cause)| {
            !self.ignored.iter().any(|pattern| pattern.matches(task))
                && (self.causes.is_empty() || self.causes.contains(cause))
        });
        let levels = speaking.filter_map(|(task, _)| match finding.kind {
            FindingKind::Deadlock => Some(Level::Critical),
            FindingKind::BusyTask
            | FindingKind::StuckTask
            | FindingKind::Futurelock
            | FindingKind::SlowTask
            | FindingKind::Leak => Some(Level::Warning),
            FindingKind::PoolExhausted | FindingKind::Shutdown => None,
            FindingKind::AllWorkersBlocked | FindingKind::DriverLag | FindingKind::LifoSlot => {
                self.level_at(evidence.duration_ns, |pattern| pattern.matches(task))
            }
        });
        levels.max()
    }

    /// The level of a duration, by the first type threshold whose pattern fits.
    fn level_at(&self, duration_ns: u64, fits: impl Fn(&WildMatch) -> bool) -> Option<Level> {
        let own = self.of_types.iter().find(|(pattern, _)| fits(pattern));
        let warn = own.map_or(self.levels.warn(self.threshold), |(_, at)| *at);
        let critical = self.levels.critical(self.threshold).max(warn);
        if duration_ns >= nanoseconds(critical) {
            Some(Level::Critical)
        } else if duration_ns >= nanoseconds(warn) {
            Some(Level::Warning)
        } else {
            None
        }
    }
}

/// Whether a pattern is that of the task's type, by either of its names.
fn is_named(pattern: &WildMatch, poll: &LongPoll) -> bool {
    let task = &poll.task;
    pattern.matches(&task.name) || task.full_name.as_ref().is_some_and(|n| pattern.matches(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(name: &str, millis: u64) -> LongPoll {
        serde_json::from_value(serde_json::json!({
            "pid": 1, "tid": 1, "thread": "worker", "task_id": 7, "start_ns": 1, "ended": true,
            "task": {"name": name, "name_source": "location", "certain": true, "kind": "async"},
            "duration_ns": millis * 1_000_000,
        }))
        .unwrap()
    }

    fn at(millis: u64) -> (Duration, bool) {
        (Duration::from_millis(millis), false)
    }

    fn filter(of_types: &[(&str, u64)], ignored: &[&str], causes: &[Cause]) -> Filter {
        let of_types: Vec<_> = of_types
            .iter()
            .map(|(pattern, millis)| TypeThreshold {
                pattern: (*pattern).to_owned(),
                at: Duration::from_millis(*millis),
            })
            .collect();
        let ignored: Vec<_> = ignored.iter().map(|p| (*p).to_owned()).collect();
        Filter::new(Levels::default(), at(10), &of_types, &ignored, causes)
    }

    #[test]
    fn levels_begin_at_their_durations() {
        let filter = filter(&[], &[], &[]);
        assert_eq!(filter.level(&poll("a", 9)), None);
        assert_eq!(filter.level(&poll("a", 10)), Some(Level::Warning));
        assert_eq!(filter.level(&poll("a", 100)), Some(Level::Critical));
    }

    #[test]
    fn levels_that_were_not_chosen_follow_the_threshold() {
        let mut followed = filter(&[], &[], &[]);
        followed.follow(Duration::from_millis(1));
        assert_eq!(followed.level(&poll("a", 1)), Some(Level::Warning));
        assert_eq!(followed.level(&poll("a", 10)), Some(Level::Critical));
        let levels = Levels {
            warn: Some(Duration::from_millis(5)),
            critical: None,
        };
        let mut chosen = Filter::new(levels, at(10), &[], &[], &[]);
        chosen.follow(Duration::from_millis(1));
        assert_eq!(chosen.level(&poll("a", 4)), None);
        assert_eq!(chosen.level(&poll("a", 5)), Some(Level::Warning));
    }

    #[test]
    fn other_rules_keep_a_fitted_threshold() {
        let auto = (Duration::from_millis(10), true);
        let new = |threshold| Filter::new(Levels::default(), threshold, &[], &[], &[]);
        let mut fitted = new(auto);
        fitted.follow(Duration::from_millis(1));
        let mut next = new(auto);
        next.succeed(&fitted);
        assert_eq!(next.level(&poll("a", 1)), Some(Level::Warning));
        let mut fixed = new(at(10));
        fixed.succeed(&fitted);
        assert_eq!(fixed.level(&poll("a", 1)), None);
    }

    #[test]
    fn a_type_has_its_own_threshold_and_the_first_that_fits_counts() {
        let filter = filter(&[("api::upload*", 200), ("api::*", 1)], &[], &[]);
        assert_eq!(filter.level(&poll("api::upload::one", 199)), None);
        assert_eq!(
            filter.level(&poll("api::upload::one", 200)),
            Some(Level::Critical)
        );
        assert_eq!(filter.level(&poll("api::other", 1)), Some(Level::Warning));
        assert_eq!(filter.level(&poll("db::api::x", 9)), None);
    }

    #[test]
    fn what_is_ignored_or_has_another_cause_is_silent() {
        let ignoring = filter(&[], &["metrics::*"], &[]);
        assert_eq!(ignoring.level(&poll("metrics::flush", 500)), None);
        let only = filter(&[], &[], &[Cause::Sleep]);
        assert_eq!(only.level(&poll("a", 500)), None, "its cause is not known");
        let unknown = filter(&[], &[], &[Cause::Unknown]);
        assert_eq!(unknown.level(&poll("a", 500)), Some(Level::Critical));
    }

    fn finding(kind: FindingKind, millis: u64, task: &str) -> Finding {
        let found = crate::model::FoundPoll::from(&poll(task, millis));
        Finding {
            time_ns: 1,
            pid: 1,
            kind,
            evidence: crate::model::Evidence {
                duration_ns: millis * 1_000_000,
                polls: vec![found],
                ..Default::default()
            },
            advice: String::new(),
        }
    }

    #[test]
    fn a_finding_has_the_level_of_its_length_and_the_filters_of_its_polls() {
        let plain = filter(&[], &["metrics::*"], &[]);
        let of = |kind, millis, task| plain.level_of(&finding(kind, millis, task));
        let blocked = FindingKind::AllWorkersBlocked;
        assert_eq!(of(blocked, 9, "a"), None);
        assert_eq!(of(blocked, 10, "a"), Some(Level::Warning));
        assert_eq!(of(blocked, 100, "a"), Some(Level::Critical));
        assert_eq!(of(FindingKind::Deadlock, 1, "a"), Some(Level::Critical));
        assert_eq!(of(blocked, 100, "metrics::flush"), None);
        let only = filter(&[], &[], &[Cause::Sleep]);
        assert_eq!(only.level_of(&finding(blocked, 100, "a")), None);
        let slow = filter(&[("slow*", 200)], &[], &[]);
        assert_eq!(slow.level_of(&finding(blocked, 100, "slow")), None);
    }

    #[test]
    fn what_may_block_is_silent() {
        let allowed = LongPoll {
            block_in_place: true,
            ..poll("a", 500)
        };
        assert_eq!(filter(&[], &[], &[]).level(&allowed), None);
    }
}
