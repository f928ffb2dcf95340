//! What observation may cost the process, and how much is observed so that it keeps to that.

#[cfg(test)]
mod tests;

use crate::model::{self, Mode, ProbeCost, Step};

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
    /// Whether polls are timed by their entries alone, to keep to the budget.
    by_entries: bool,
    /// Whether that does not change any more.
    keeps_timing: bool,
    /// What is being prepared: until then all is as before.
    changing: Option<Change>,
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

/// What there is to fall back on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fallbacks {
    /// What a poll costs that is timed by its entry alone, as a share of what it costs now; `None`
    /// where that is no way to time polls, or how they are timed already.
    pub entries: Option<f64>,
    /// Whether polls can be watched while the probes are away.
    pub watching: bool,
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
    /// How polls are timed from now on, if otherwise than before.
    pub timing: Option<Mode>,
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
            by_entries: false,
            keeps_timing: false,
            changing: None,
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
            timing: None,
        })
    }

    /// Polls could not be timed otherwise than before, and are not to be again. Returns what is
    /// observed.
    pub(super) fn keep_timing(&mut self) -> Step {
        self.changing = None;
        self.keeps_timing = true;
        self.said.step
    }

    /// Polls are timed otherwise from now on. `None` if that was not to be.
    pub(super) fn changed_timing(&mut self, now_ns: u64) -> Option<Change> {
        let change = self.changing.take()?;
        self.count(now_ns);
        self.by_entries = change.timing == Some(Mode::Light);
        if self.by_entries {
            self.stepped_down(change.step);
        } else {
            self.stepped_up(change.step);
        }
        Some(change)
    }

    fn without_stacks(&self) -> Step {
        if self.by_entries {
            Step::EntryOnly
        } else {
            Step::NoStacks
        }
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
            Step::EntryOnly => self.said.entry_only_ns += since_ns,
            Step::Watched => self.said.watched_ns += since_ns,
            Step::Paused => self.said.paused_ns += since_ns,
        }
        self.before.time_ns = self.before.time_ns.max(now_ns);
    }

    /// Looks at the window that is over. `fallbacks` is asked where less is to be observed.
    pub(super) fn look(
        &mut self,
        now: Reading,
        fallbacks: impl FnOnce() -> Fallbacks,
    ) -> Option<Change> {
        let before = self.before;
        self.count(now.time_ns);
        self.before = now;
        if self.changing.is_some() {
            return None;
        }
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
            return Some(self.step_down(now.time_ns, (cost, stacks), fallbacks()));
        }
        if self.calm < CALM << self.doublings {
            return None;
        }
        match self.said.step {
            Step::NoStacks => Some(self.step_up(Step::Full, Some(cost))),
            Step::EntryOnly if !self.keeps_timing => {
                Some(self.change_timing(Mode::Exact, Step::NoStacks, cost))
            }
            Step::Full | Step::EntryOnly | Step::Watched | Step::Paused => None,
        }
    }

    /// Stacks are left out if that is enough, else the probes of returns too, else all probes.
    fn step_down(
        &mut self,
        now_ns: u64,
        (cost, stacks): (f64, f64),
        fallbacks: Fallbacks,
    ) -> Change {
        let bare = cost - stacks;
        let is_enough = |share: &f64| bare * share <= self.said.share;
        let entries = fallbacks.entries.filter(|_| !self.keeps_timing);
        if self.said.step == Step::Full && is_enough(&1.0) {
            return self.stepped(Step::NoStacks, cost, 0);
        }
        if entries.as_ref().is_some_and(is_enough) {
            return self.change_timing(Mode::Light, Step::EntryOnly, cost);
        }
        let pause_ns = self.pause(now_ns, cost);
        let step = if fallbacks.watching {
            Step::Watched
        } else {
            Step::Paused
        };
        self.stepped(step, cost, pause_ns)
    }

    fn stepped(&mut self, step: Step, cost: f64, pause_ns: u64) -> Change {
        self.stepped_down(step);
        Change {
            step,
            cost: Some(cost),
            pause_ns,
            timing: None,
        }
    }

    /// That takes a while, and comes true with [`Self::changed_timing`].
    fn change_timing(&mut self, mode: Mode, step: Step, cost: f64) -> Change {
        let change = Change {
            step,
            cost: Some(cost),
            pause_ns: 0,
            timing: Some(mode),
        };
        self.changing = Some(change);
        change
    }

    fn stepped_down(&mut self, step: Step) {
        self.said.step = step;
        self.said.steps_down += 1;
        self.doublings = (self.doublings + 1).min(MOST_DOUBLINGS);
        (self.over, self.calm) = (0, 0);
    }

    fn stepped_up(&mut self, step: Step) {
        self.said.step = step;
        self.said.steps_up += 1;
        (self.over, self.calm) = (0, 0);
    }

    /// Without probes for as long as what was seen since the last pause must be spread over, to
    /// cost no more than allowed. Returns how long that is, in nanoseconds.
    fn pause(&mut self, now_ns: u64, cost: f64) -> u64 {
        let seen_ns = now_ns
            .saturating_sub(self.seen_since_ns)
            .min(10 * WINDOW_NS) as f64;
        let pause_ns = (seen_ns * (cost / self.said.share - 1.0)) as u64;
        let pause_ns = pause_ns.clamp(SHORTEST_PAUSE_NS, LONGEST_PAUSE_NS);
        self.paused = Some(Pause {
            from_ns: now_ns,
            until_ns: now_ns + pause_ns,
        });
        pause_ns
    }

    fn step_up(&mut self, step: Step, cost: Option<f64>) -> Change {
        self.stepped_up(step);
        Change {
            step,
            cost,
            pause_ns: 0,
            timing: None,
        }
    }

    /// Without stacks at first.
    fn go_on(&mut self, now_ns: u64) -> Change {
        self.paused = None;
        self.seen_since_ns = now_ns;
        self.step_up(self.without_stacks(), None)
    }
}
