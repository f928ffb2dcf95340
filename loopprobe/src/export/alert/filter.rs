use std::time::Duration;

use wildmatch::WildMatch;

use super::Level;
use crate::{
    clock::nanoseconds,
    model::{Cause, LongPoll},
};

/// From which duration on a poll is how bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The first alert.
    pub warn: Duration,
    /// The second level; not below `warn`.
    pub critical: Duration,
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
    of_types: Vec<(WildMatch, Duration)>,
    ignored: Vec<WildMatch>,
    /// Only these; all if it is empty.
    causes: Vec<Cause>,
}

impl Filter {
    /// Polls from `levels` on, of types by their own thresholds, without the `ignored` ones, and with one of `causes` if there are any.
    pub fn new(
        levels: Levels,
        of_types: &[TypeThreshold],
        ignored: &[String],
        causes: &[Cause],
    ) -> Self {
        Self {
            levels,
            of_types: of_types
                .iter()
                .map(|own| (WildMatch::new(&own.pattern), own.at))
                .collect(),
            ignored: ignored.iter().map(|p| WildMatch::new(p)).collect(),
            causes: causes.to_vec(),
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
        let own = self.of_types.iter().find(|(p, _)| is_named(p, poll));
        let warn = own.map_or(self.levels.warn, |(_, at)| *at);
        let critical = self.levels.critical.max(warn);
        let duration = poll.duration_ns;
        if duration >= nanoseconds(critical) {
            Some(Level::Critical)
        } else if duration >= nanoseconds(warn) {
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

    fn filter(of_types: &[(&str, u64)], ignored: &[&str], causes: &[Cause]) -> Filter {
        let of_types: Vec<_> = of_types
            .iter()
            .map(|(pattern, millis)| TypeThreshold {
                pattern: (*pattern).to_owned(),
                at: Duration::from_millis(*millis),
            })
            .collect();
        let ignored: Vec<_> = ignored.iter().map(|p| (*p).to_owned()).collect();
        let levels = Levels {
            warn: Duration::from_millis(10),
            critical: Duration::from_millis(100),
        };
        Filter::new(levels, &of_types, &ignored, causes)
    }

    #[test]
    fn levels_begin_at_their_durations() {
        let filter = filter(&[], &[], &[]);
        assert_eq!(filter.level(&poll("a", 9)), None);
        assert_eq!(filter.level(&poll("a", 10)), Some(Level::Warning));
        assert_eq!(filter.level(&poll("a", 100)), Some(Level::Critical));
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

    #[test]
    fn what_may_block_is_silent() {
        let allowed = LongPoll {
            block_in_place: true,
            ..poll("a", 500)
        };
        assert_eq!(filter(&[], &[], &[]).level(&allowed), None);
    }
}
