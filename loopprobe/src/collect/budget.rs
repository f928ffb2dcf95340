//! What observation may cost the process, and how much is observed so that it keeps to that.

use crate::model::{self, ProbeCost, Step};

/// How long a window is.
pub(super) const WINDOW_NS: u64 = 1_000_000_000;
/// A process that uses less CPU time than this share of one CPU counts as if it used so much: what
/// a nearly idle one costs is little, whatever its share.
const LEAST_CPU: f64 = 0.1;
/// After so many windows over the budget less is observed.
const OVER: u32 = 2;
/// After so many windows well below it more is.
const CALM: u32 = 30;
/// That is, with less than this share of what is allowed.
const WELL_BELOW: f64 = 0.5;
/// How often the wait for that doubles.
const MOST_DOUBLINGS: u32 = 4;
/// How long the probes are away at least, and at most.
const SHORTEST_PAUSE_NS: u64 = 10_000_000_000;
const LONGEST_PAUSE_NS: u64 = 300_000_000_000;

/// Keeps account.
#[derive(Debug)]
pub(super) struct Budget {
    /// What there is to say of it.
    pub(super) said: model::Budget,
    before: Reading,
    over: u32,
    calm: u32,
    doublings: u32,
    /// Since when the probes are there again.
    seen_since_ns: u64,
    paused: Option<Pause>,
}

/// When the probes are away.
#[derive(Clone, Copy, Debug)]
struct Pause {
    from_ns: u64,
    until_ns: u64,
}

/// What was used by a moment, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// When.
    pub time_ns: u64,
    /// What observation has cost.
    pub cost_ns: u64,
    /// Of that, stacks and samples.
    pub stacks_ns: u64,
    /// How much CPU time the process has used.
    pub cpu_ns: u64,
}

impl Reading {
    /// By a bill.
    pub(super) fn of(cost: &ProbeCost, cpu_ns: u64, time_ns: u64) -> Self {
        Self {
            time_ns,
            cost_ns: cost.total_ns,
            stacks_ns: cost.stacks_ns + cost.samples_ns,
            cpu_ns,
        }
    }
}

/// What is to change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    /// How much is observed from now on.
    pub step: Step,
    /// What observation cost in the last window, as a share of the process's CPU time; `None` after
    /// a pause.
    pub cost: Option<f64>,
    /// For how long, if without probes.
    pub pause_ns: u64,
}

impl Budget {
    /// At most `share` of the process's CPU time.
    pub(super) fn new(share: f64, now: Reading) -> Self {
        Self {
            said: model::Budget {
                share,
                ..model::Budget::default()
            },
            before: now,
            over: 0,
            calm: 0,
            doublings: 0,
            seen_since_ns: now.time_ns,
            paused: None,
        }
    }

    /// Watching came to an end before its time: nothing is seen for the rest of it. `None` if
    /// nothing is watched.
    pub(super) fn stop_watching(&mut self, now_ns: u64) -> Option<Change> {
        let pause = self.paused.filter(|_| self.said.step == Step::Watched)?;
        self.count(now_ns);
        self.said.step = Step::Paused;
        self.said.steps_down += 1;
        Some(Change {
            step: Step::Paused,
            cost: None,
            pause_ns: pause.until_ns.saturating_sub(now_ns),
        })
    }

    /// Since when the probes are away.
    pub(super) fn paused_since(&self) -> Option<u64> {
        self.paused.map(|pause| pause.from_ns)
    }

    /// Whether it is time for a [`Self::look`].
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.before.time_ns + WINDOW_NS
    }

    /// Counts the time since the last look, also at the session's end.
    pub(super) fn count(&mut self, now_ns: u64) {
        let since_ns = now_ns.saturating_sub(self.before.time_ns);
        match self.said.step {
            Step::Full => {}
            Step::NoStacks => self.said.no_stacks_ns += since_ns,
            Step::Watched => self.said.watched_ns += since_ns,
            Step::Paused => self.said.paused_ns += since_ns,
        }
        self.before.time_ns = self.before.time_ns.max(now_ns);
    }

    /// Looks at the window that is over. `can_watch`: whether polls can be watched while the probes
    /// are away.
    pub(super) fn look(
        &mut self,
        now: Reading,
        can_watch: impl FnOnce() -> bool,
    ) -> Option<Change> {
        let before = self.before;
        self.count(now.time_ns);
        self.before = now;
        if let Some(pause) = self.paused {
            return (now.time_ns >= pause.until_ns).then(|| self.go_on(now.time_ns));
        }
        let wall_ns = now.time_ns.saturating_sub(before.time_ns) as f64;
        let cpu_ns = now.cpu_ns.saturating_sub(before.cpu_ns) as f64;
        let base_ns = cpu_ns.max(wall_ns * LEAST_CPU).max(1.0);
        let cost = now.cost_ns.saturating_sub(before.cost_ns) as f64 / base_ns;
        let stacks = now.stacks_ns.saturating_sub(before.stacks_ns) as f64 / base_ns;
        if cost > self.said.share {
            self.over += 1;
            self.calm = 0;
        } else {
            self.over = 0;
            self.calm += u32::from(cost < self.said.share * WELL_BELOW);
        }
        if self.over >= OVER {
            return Some(self.step_down(now.time_ns, (cost, stacks), can_watch));
        }
        let is_calm = self.calm >= CALM << self.doublings;
        (is_calm && self.said.step == Step::NoStacks).then(|| self.step_up(Step::Full, Some(cost)))
    }

    /// Stacks are left out if that is enough, else the probes are.
    fn step_down(
        &mut self,
        now_ns: u64,
        (cost, stacks): (f64, f64),
        can_watch: impl FnOnce() -> bool,
    ) -> Change {
        let saves = self.said.step == Step::Full && cost - stacks <= self.said.share;
        let mut pause_ns = 0;
        if saves {
            self.said.step = Step::NoStacks;
        } else {
            // As long as what was seen since the last pause must be spread over, to cost no more
            // than allowed.
            let seen_ns = now_ns
                .saturating_sub(self.seen_since_ns)
                .min(10 * WINDOW_NS) as f64;
            pause_ns = (seen_ns * (cost / self.said.share - 1.0)) as u64;
            pause_ns = pause_ns.clamp(SHORTEST_PAUSE_NS, LONGEST_PAUSE_NS);
            self.said.step = if can_watch() {
                Step::Watched
            } else {
                Step::Paused
            };
            self.paused = Some(Pause {
                from_ns: now_ns,
                until_ns: now_ns + pause_ns,
            });
        }
        self.said.steps_down += 1;
        self.doublings = (self.doublings + 1).min(MOST_DOUBLINGS);
        (self.over, self.calm) = (0, 0);
        Change {
            step: self.said.step,
            cost: Some(cost),
            pause_ns,
        }
    }

    fn step_up(&mut self, step: Step, cost: Option<f64>) -> Change {
        self.said.step = step;
        self.said.steps_up += 1;
        self.calm = 0;
        Change {
            step,
            cost,
            pause_ns: 0,
        }
    }

    /// Without stacks at first.
    fn go_on(&mut self, now_ns: u64) -> Change {
        self.paused = None;
        self.seen_since_ns = now_ns;
        self.step_up(Step::NoStacks, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A process that uses one CPU, of which so many nanoseconds a second are observation's.
    struct Process {
        budget: Budget,
        now: Reading,
        can_watch: bool,
    }

    impl Process {
        fn new() -> Self {
            let now = Reading::default();
            Self {
                budget: Budget::new(0.01, now),
                now,
                can_watch: false,
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
                changes.extend(self.budget.look(self.now, || self.can_watch));
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
        process.can_watch = true;
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
        process.can_watch = true;
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
            assert_eq!(budget.look(now, || false), None);
        }
    }
}
