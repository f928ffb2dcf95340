//! Steps down and up, by what a process would cost.

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A process that uses one CPU, of which so many nanoseconds a second are observation's.
struct Process {
    budget: Budget,
    now: Reading,
    fallbacks: Fallbacks,
    /// Whether timing changes at once.
    can_change: bool,
}

impl Process {
    fn new() -> Self {
        let now = Reading::default();
        Self {
            budget: Budget::new(0.01, now),
            now,
            fallbacks: Fallbacks::default(),
            can_change: true,
        }
    }

    fn seconds(&mut self, n: u64, cost_ns: u64, stacks_ns: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for _ in 0..n {
            self.now.time_ns += SECOND;
            self.now.cpu_ns += SECOND;
            if self.budget.paused.is_none() {
                self.now.cost_ns += cost_ns;
                self.now.stacks_ns += stacks_ns;
            }
            let change = self.budget.look(self.now, || self.fallbacks);
            if change.is_some_and(|change| change.timing.is_some()) && self.can_change {
                changes.extend(self.budget.changed_timing(self.now.time_ns));
            } else {
                changes.extend(change);
            }
        }
        changes
    }
}

fn steps(changes: &[Change]) -> Vec<Step> {
    changes.iter().map(|change| change.step).collect()
}

#[test]
fn what_costs_little_is_observed_in_full() {
    let mut process = Process::new();
    assert_eq!(process.seconds(100, SECOND / 101, 0), []);
    assert_eq!(process.budget.said.step, Step::Full);
}

#[test]
fn one_dear_second_changes_nothing() {
    let mut process = Process::new();
    assert_eq!(process.seconds(1, SECOND / 10, 0), []);
    assert_eq!(process.seconds(1, 0, 0), []);
    assert_eq!(process.seconds(1, SECOND / 10, 0), []);
}

#[test]
fn stacks_are_left_out_where_that_is_enough_and_come_back_when_it_is_calm() {
    let mut process = Process::new();
    let changes = process.seconds(2, SECOND / 50, SECOND / 60);
    assert_eq!(steps(&changes), [Step::NoStacks]);
    assert_eq!(process.seconds(59, SECOND / 1000, 0), []);
    assert_eq!(steps(&process.seconds(1, SECOND / 1000, 0)), [Step::Full]);
    let said = process.budget.said;
    assert_eq!((said.steps_down, said.steps_up), (1, 1));
    assert_eq!(said.no_stacks_ns, 60 * SECOND);
}

#[test]
fn pauses_keep_the_whole_below_the_budget() {
    let mut process = Process::new();
    let changes = process.seconds(600, SECOND / 10, 0);
    assert_eq!(changes[0].step, Step::Paused);
    assert_eq!(changes[1].step, Step::NoStacks);
    let whole = process.now.cost_ns as f64 / process.now.cpu_ns as f64;
    assert!(whole < 0.0125, "{whole}");
    assert!(process.budget.said.paused_ns > 500 * SECOND);
}

#[test]
fn where_polls_can_be_watched_they_are_while_the_probes_are_away() {
    let mut process = Process::new();
    process.fallbacks.watching = true;
    let changes = process.seconds(30, SECOND / 10, 0);
    assert_eq!(
        steps(&changes),
        [Step::Watched, Step::NoStacks, Step::Watched]
    );
    let said = process.budget.said;
    assert!(
        said.watched_ns >= 10 * SECOND && said.paused_ns == 0,
        "{said:?}"
    );
}

#[test]
fn watching_that_fails_leaves_the_rest_of_its_time_unseen() {
    let mut process = Process::new();
    process.fallbacks.watching = true;
    let changes = process.seconds(2, SECOND / 10, 0);
    assert_eq!(steps(&changes), [Step::Watched]);
    let whole_ns = changes[0].pause_ns;
    process.seconds(3, 0, 0);
    let change = process.budget.stop_watching(5 * SECOND).unwrap();
    assert_eq!(
        (change.step, change.pause_ns),
        (Step::Paused, whole_ns - 3 * SECOND)
    );
    assert_eq!(process.budget.stop_watching(5 * SECOND), None);
    process.seconds(4, 0, 0);
    let said = process.budget.said;
    assert_eq!((said.watched_ns, said.paused_ns), (3 * SECOND, 4 * SECOND));
}

#[test]
fn a_process_that_is_nearly_idle_is_observed_whatever_its_share() {
    let mut budget = Budget::new(0.01, Reading::default());
    let mut now = Reading::default();
    for _ in 0..10 {
        now.time_ns += SECOND;
        now.cpu_ns += SECOND / 1000;
        now.cost_ns += SECOND / 2000;
        assert_eq!(budget.look(now, Fallbacks::default), None);
    }
}

#[test]
fn entries_alone_are_timed_where_that_is_enough_and_both_ends_again_when_it_is_calm() {
    let mut process = Process::new();
    process.fallbacks = Fallbacks {
        entries: Some(0.6),
        watching: true,
    };
    let changes = process.seconds(2, SECOND / 70, 0);
    assert_eq!(steps(&changes), [Step::EntryOnly]);
    assert_eq!(changes[0].timing, Some(Mode::Light));
    let changes = process.seconds(60, SECOND / 1000, 0);
    assert_eq!(steps(&changes), [Step::NoStacks]);
    assert_eq!(changes[0].timing, Some(Mode::Exact));
    let changes = process.seconds(60, SECOND / 1000, 0);
    assert_eq!(steps(&changes), [Step::Full]);
    assert_eq!(changes[0].timing, None);
    let said = process.budget.said;
    assert_eq!((said.steps_down, said.steps_up), (1, 2));
    assert_eq!(said.entry_only_ns, 60 * SECOND);
    assert_eq!(said.no_stacks_ns, 60 * SECOND);
}

#[test]
fn where_entries_alone_are_too_dear_the_probes_go() {
    let mut process = Process::new();
    process.fallbacks = Fallbacks {
        entries: Some(0.6),
        watching: true,
    };
    let changes = process.seconds(2, SECOND / 50, 0);
    assert_eq!(steps(&changes), [Step::Watched]);
}

#[test]
fn after_a_pause_polls_are_timed_as_before_it() {
    let mut process = Process::new();
    process.fallbacks.entries = Some(0.6);
    assert_eq!(
        steps(&process.seconds(2, SECOND / 70, 0)),
        [Step::EntryOnly]
    );
    process.fallbacks.entries = None;
    let changes = process.seconds(2, SECOND / 50, 0);
    assert_eq!(steps(&changes), [Step::Paused]);
    let pause = changes[0].pause_ns / SECOND + 1;
    let changes = process.seconds(pause, 0, 0);
    assert_eq!(steps(&changes), [Step::EntryOnly]);
    assert_eq!(changes[0].timing, None);
}

#[test]
fn until_the_timing_has_changed_all_is_as_before() {
    let mut process = Process::new();
    process.can_change = false;
    process.fallbacks.entries = Some(0.6);
    let changes = process.seconds(10, SECOND / 70, 0);
    assert_eq!(steps(&changes), [Step::EntryOnly]);
    assert_eq!(process.budget.said.step, Step::Full);
    assert_eq!(process.budget.said.steps_down, 0);
    let change = process.budget.changed_timing(process.now.time_ns);
    assert_eq!(change, Some(changes[0]));
    assert_eq!(process.budget.said.step, Step::EntryOnly);
    assert_eq!(process.budget.said.entry_only_ns, 0);
}

#[test]
fn timing_that_cannot_be_changed_stays() {
    let mut process = Process::new();
    process.can_change = false;
    process.fallbacks.entries = Some(0.6);
    process.seconds(2, SECOND / 70, 0);
    assert_eq!(process.budget.keep_timing(), Step::Full);
    process.fallbacks.watching = true;
    assert_eq!(steps(&process.seconds(2, SECOND / 70, 0)), [Step::Watched]);
}
