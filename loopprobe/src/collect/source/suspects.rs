//! With `--mode auto`: which task types are to be timed exactly for a while, and when.

use std::{collections::HashMap, time::Duration};

use crate::{clock::nanoseconds, model::TaskType};

/// How long a type is left alone once it has been timed. What blocks an event loop does it again.
const REST: Duration = Duration::from_secs(60);
/// How often that doubles for a type of which no long poll was found.
const MOST_DOUBLINGS: u32 = 6;
/// So many types are known at the most; others are not suspected.
const MOST_TYPES: usize = 1024;

/// Task types of which a poll was long, or may have been.
#[derive(Debug, Default)]
pub(crate) struct Suspects(HashMap<TaskType, Suspect>);

#[derive(Clone, Copy, Debug, Default)]
struct Suspect {
    /// Whether it has given cause since it was timed last.
    is_wanted: bool,
    /// Not to be timed before this.
    rests_until_ns: u64,
    doublings: u32,
}

impl Suspects {
    /// A poll of this type was long, or may have been.
    pub(crate) fn suspect(&mut self, task: &TaskType) {
        if let Some(known) = self.0.get_mut(task) {
            known.is_wanted = true;
        } else if self.0.len() < MOST_TYPES {
            let new = Suspect {
                is_wanted: true,
                ..Suspect::default()
            };
            self.0.insert(task.clone(), new);
        }
    }

    /// Those that are to be timed now, in the order of their names.
    pub(crate) fn due(&self, now_ns: u64) -> Vec<TaskType> {
        let due = self
            .0
            .iter()
            .filter(|(_, suspect)| suspect.is_wanted && suspect.rests_until_ns <= now_ns);
        let mut due: Vec<TaskType> = due.map(|(task, _)| task.clone()).collect();
        due.sort_by(|one, other| one.name.cmp(&other.name));
        due
    }

    /// A type has been timed until now; `found`: a poll of it was long.
    pub(crate) fn timed(&mut self, task: &TaskType, found: bool, now_ns: u64) {
        let Some(known) = self.0.get_mut(task) else {
            return;
        };
        known.doublings = if found {
            0
        } else {
            (known.doublings + 1).min(MOST_DOUBLINGS)
        };
        known.rests_until_ns = now_ns.saturating_add(nanoseconds(REST) << known.doublings);
        known.is_wanted = false;
    }

    /// Timing a type costs too much.
    pub(crate) fn dear(&mut self, task: &TaskType, now_ns: u64) {
        if let Some(known) = self.0.get_mut(task) {
            known.doublings = MOST_DOUBLINGS;
        }
        self.timed(task, false, now_ns);
    }

    /// A type cannot be timed.
    pub(crate) fn refuse(&mut self, task: &TaskType) {
        if let Some(known) = self.0.get_mut(task) {
            known.rests_until_ns = u64::MAX;
        }
    }

    /// The process has executed another program.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST_NS: u64 = REST.as_nanos() as u64;

    fn task(name: &str) -> TaskType {
        TaskType {
            name: name.into(),
            ..TaskType::unseen()
        }
    }

    #[test]
    fn a_type_rests_once_it_has_been_timed() {
        let mut suspects = Suspects::default();
        suspects.suspect(&task("b"));
        suspects.suspect(&task("a"));
        assert_eq!(suspects.due(0), [task("a"), task("b")]);
        suspects.timed(&task("a"), true, 0);
        assert_eq!(suspects.due(REST_NS), [task("b")]);
        suspects.suspect(&task("a"));
        assert_eq!(suspects.due(REST_NS - 1), [task("b")]);
        assert_eq!(suspects.due(REST_NS), [task("a"), task("b")]);
    }

    #[test]
    fn it_rests_longer_each_time_that_nothing_is_found() {
        let mut suspects = Suspects::default();
        suspects.suspect(&task("a"));
        let mut rest_ns = REST_NS;
        for _ in 0..MOST_DOUBLINGS {
            suspects.timed(&task("a"), false, 0);
            suspects.suspect(&task("a"));
            rest_ns *= 2;
            assert!(suspects.due(rest_ns - 1).is_empty());
            assert_eq!(suspects.due(rest_ns).len(), 1);
        }
        suspects.timed(&task("a"), false, 0);
        suspects.suspect(&task("a"));
        assert_eq!(suspects.due(rest_ns).len(), 1);
        suspects.timed(&task("a"), true, 0);
        suspects.suspect(&task("a"));
        assert_eq!(suspects.due(REST_NS).len(), 1);
    }

    #[test]
    fn what_costs_too_much_rests_longest() {
        let mut suspects = Suspects::default();
        suspects.suspect(&task("a"));
        suspects.dear(&task("a"), 0);
        suspects.suspect(&task("a"));
        let rest_ns = REST_NS << MOST_DOUBLINGS;
        assert!(suspects.due(rest_ns - 1).is_empty());
        assert_eq!(suspects.due(rest_ns).len(), 1);
    }

    #[test]
    fn what_cannot_be_timed_is_never_due() {
        let mut suspects = Suspects::default();
        suspects.suspect(&task("a"));
        suspects.refuse(&task("a"));
        suspects.suspect(&task("a"));
        assert!(suspects.due(u64::MAX - 1).is_empty());
    }

    #[test]
    fn no_more_types_are_kept_than_there_is_room_for() {
        let mut suspects = Suspects::default();
        for i in 0..2 * MOST_TYPES {
            suspects.suspect(&task(&i.to_string()));
        }
        assert_eq!(suspects.due(0).len(), MOST_TYPES);
    }
}
