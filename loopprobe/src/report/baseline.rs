//! Whether a session is worse than a recorded one.

use std::collections::BTreeMap;

use super::{Chosen, EachOnce, Key, Measured, Thresholds, Weight, diff::is_chance, key};
use crate::model::{Event, LongPoll};

/// So many standard deviations are no chance any more. Each kind of poll is asked for, so with the
/// two that do for a picture a gate over twenty kinds would fail every third time for nothing.
const DEVIATIONS: f64 = 3.0;

/// How much time of their own the long polls of a session took, by kind. Kinds are those that
/// another build has too: see [`kind`].
#[derive(Debug, Default)]
pub struct OwnTime {
    once: EachOnce,
    thresholds: Thresholds,
    duration_ns: u64,
    /// Each poll's own time by kind.
    polls: BTreeMap<Key, Vec<u64>>,
}

impl OwnTime {
    /// Takes the session's next event.
    pub fn event(&mut self, event: &Event) {
        self.thresholds.event(event);
        match event {
            Event::LongPoll(poll) => {
                if let Some(poll) = self.once.settle(poll) {
                    add(&mut self.polls, poll);
                }
            }
            Event::Summary(summary) => {
                self.duration_ns = summary.duration_ns;
                for poll in self.once.rest() {
                    add(&mut self.polls, &poll);
                }
            }
            Event::Session(_) | Event::Notice(_) | Event::Interval(_) | Event::Finding(_) => {}
        }
    }

    /// Polls of a kind that took at least `floor_ns`.
    fn weight(&self, kind: &Key, floor_ns: u64) -> Weight {
        let polls = self.polls.get(kind).into_iter().flatten();
        let long = polls.filter(|ns| **ns >= floor_ns);
        long.fold(Weight::default(), |sum, ns| Weight {
            ns: sum.ns.saturating_add(*ns),
            count: sum.count + 1,
        })
    }
}

fn add(polls: &mut BTreeMap<Key, Vec<u64>>, poll: &LongPoll) {
    if poll.is_blameless() {
        return;
    }
    let own_ns = poll.own_ns().unwrap_or(poll.duration_ns);
    polls.entry(kind(poll)).or_default().push(own_ns);
}

/// What polls have in common in every build of a program: no line of a definition, no address.
pub fn kind(poll: &LongPoll) -> Key {
    let (task, cause, call) = key(poll);
    let task = match task.rsplit_once(':') {
        Some((file, line)) if line.bytes().all(|c| c.is_ascii_digit()) && !line.is_empty() => {
            file.to_owned()
        }
        _ => task,
    };
    (task, cause, call.filter(|call| !call.contains("+0x")))
}

/// A recording that later sessions are held against.
#[derive(Debug)]
pub struct Baseline(OwnTime);

/// A kind of poll that got worse than in the baseline, beyond chance.
#[derive(Clone, Debug)]
pub struct Worse {
    /// Which.
    pub kind: Key,
    /// Own time in long polls a minute, in nanoseconds, before and after.
    pub ns_per_minute: [u64; 2],
    /// Long polls a minute, before and after.
    pub polls_per_minute: [f64; 2],
}

impl std::fmt::Display for Worse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [before, after] = self.ns_per_minute;
        let [polls_before, polls_after] = self.polls_per_minute;
        write!(
            f,
            "{} a minute in {polls_after:.1} long polls, {} in {polls_before:.1} in the baseline",
            Measured(after),
            Measured(before)
        )
    }
}

impl Baseline {
    /// The recording's own time.
    pub fn new(recorded: OwnTime) -> Self {
        Self(recorded)
    }

    /// From which duration on the polls of both sessions are compared: both know of those.
    pub fn floor_ns(&self, now: &OwnTime) -> u64 {
        self.0.thresholds.most_ns().max(now.thresholds.most_ns())
    }

    /// The kinds that got worse, the worst first.
    pub fn worse(&self, now: &OwnTime) -> Vec<Worse> {
        let (before_ns, after_ns) = (self.0.duration_ns.max(1), now.duration_ns.max(1));
        let scale = after_ns as f64 / before_ns as f64;
        let floor_ns = self.floor_ns(now);
        let weights = now
            .polls
            .keys()
            .map(|kind| (kind, now.weight(kind, floor_ns)));
        let total_ns = weights.clone().map(|(_, weight)| weight.ns).sum();
        let mut worse: Vec<Worse> = weights
            .filter_map(|(kind, after)| {
                let before = self.0.weight(kind, floor_ns);
                let more = after.ns as f64 > before.ns as f64 * scale;
                let chance = is_chance(before, after, scale, total_ns, DEVIATIONS);
                let a_minute = |value: u64, in_ns: u64| value as f64 * 60e9 / in_ns as f64;
                (more && !chance).then(|| Worse {
                    kind: kind.clone(),
                    ns_per_minute: [a_minute(before.ns, before_ns), a_minute(after.ns, after_ns)]
                        .map(|ns| ns.round() as u64),
                    polls_per_minute: [
                        a_minute(before.count, before_ns),
                        a_minute(after.count, after_ns),
                    ],
                })
            })
            .collect();
        worse.sort_by_key(|kind| {
            let [before, after] = kind.ns_per_minute;
            std::cmp::Reverse(after.saturating_sub(before))
        });
        worse
    }

    /// What is compared, in words.
    pub fn describe(&self, now: &OwnTime) -> String {
        format!(
            "polls from {} on, {} against {}",
            Chosen(self.floor_ns(now)),
            Measured(now.duration_ns),
            Measured(self.0.duration_ns)
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Cause, Notice};

    const MS: u64 = 1_000_000;

    fn session(threshold_ms: u64, seconds: u64, polls: &[(&str, u64, u64)]) -> OwnTime {
        let mut own = OwnTime::default();
        own.event(&Event::Notice(Notice {
            threshold_ns: Some(threshold_ms * MS),
            ..Notice::default()
        }));
        let mut start_ns = 0;
        for (task, count, ms) in polls {
            for _ in 0..*count {
                start_ns += 1;
                let poll = json!({
                    "type": "long_poll", "pid": 1, "tid": 1, "thread": "worker", "task_id": 7, "start_ns": start_ns, "ended": true,
                    "task": {"name": task, "name_source": "location", "certain": true, "kind": "async"},
                    "duration_ns": 1_000 * MS, "on_cpu_ns": ms * MS, "runnable_ns": (1_000 - ms) * MS, "blocked_ns": 0,
                });
                own.event(&serde_json::from_value(poll).unwrap());
            }
        }
        own.duration_ns = seconds * 1_000 * MS;
        own
    }

    fn worse(before: OwnTime, after: &OwnTime) -> Vec<String> {
        let worse = Baseline::new(before).worse(after);
        worse.into_iter().map(|worse| worse.kind.0).collect()
    }

    #[test]
    fn more_of_the_same_and_longer_ones_are_worse() {
        let before = || session(10, 10, &[("a", 20, 20), ("b", 20, 20)]);
        let more = session(10, 10, &[("a", 60, 20), ("b", 21, 20)]);
        assert_eq!(worse(before(), &more), ["a"]);
        let longer = session(10, 10, &[("a", 20, 20), ("b", 20, 90)]);
        assert_eq!(worse(before(), &longer), ["b"]);
        let less = session(10, 10, &[("a", 2, 20)]);
        assert_eq!(worse(before(), &less), [""; 0]);
    }

    #[test]
    fn chance_and_a_longer_session_are_not_worse() {
        let before = || session(10, 10, &[("a", 20, 20)]);
        assert_eq!(worse(before(), &session(10, 10, &[("a", 30, 20)])), [""; 0]);
        assert_eq!(
            worse(before(), &session(10, 60, &[("a", 120, 20)])),
            [""; 0]
        );
        assert_eq!(
            worse(before(), &session(10, 10, &[("new", 3, 20)])),
            [""; 0]
        );
        assert_eq!(
            worse(before(), &session(10, 10, &[("new", 30, 20)])),
            ["new"]
        );
    }

    #[test]
    fn what_one_session_did_not_look_at_is_not_compared() {
        let low = session(1, 10, &[("a", 500, 2), ("b", 50, 20)]);
        assert_eq!(worse(session(10, 10, &[("b", 50, 20)]), &low), [""; 0]);
    }

    #[test]
    fn kinds_outlive_a_build() {
        let poll: LongPoll = serde_json::from_value(json!({
            "pid": 1, "tid": 1, "thread": "worker", "task_id": 7, "start_ns": 1, "ended": true, "duration_ns": 1,
            "task": {"name": "src/main.rs:389", "name_source": "location", "certain": true, "kind": "async"},
            "cause": "sleep", "call": {"function": "api+0x6e2b0"}, "advice": "",
        }))
        .unwrap();
        assert_eq!(kind(&poll), ("src/main.rs".to_owned(), Cause::Sleep, None));
    }
}
