//! What a session observes, and its defaults: 10 ms threshold, 499 samples a second.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{AutoThreshold, Threshold, ThresholdDial};
use crate::{
    attach::Loads,
    cache::Cache,
    model::Mode,
    runtime::{RUNTIMES, Runtimes},
};

/// What to observe, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The process, as this process's `/proc` shows it.
    pub pid: u32,
    /// The program that the process is about to execute, if it has not yet: its sites are probed
    /// from its first instruction on.
    pub program: Option<PathBuf>,
    /// The runtimes that are looked for.
    pub runtimes: Runtimes,
    /// Polls at least this long are reported; zero reports all.
    pub threshold: Duration,
    /// Whether that is only the beginning, and then fitted to the process's polls.
    pub auto_threshold: Option<AutoThreshold>,
    /// How polls are seen.
    pub mode: Mode,
    /// Changes the threshold while the session runs.
    pub threshold_dial: Option<ThresholdDial>,
    /// When to end; `None` until a signal or the target's end.
    pub duration: Option<Duration>,
    /// Off-CPU stretches at least this long get a stack; `None` for the smaller of 1 ms and a tenth
    /// of the threshold.
    pub min_block: Option<Duration>,
    /// Samples a second for stacks of computing polls; zero takes none.
    pub sample_hz: u32,
    /// Whether stacks are taken at all.
    pub stacks: bool,
    /// A poll that is still open is reported once it is this old, and again each time its age has
    /// doubled.
    pub report_open_after: Duration,
    /// How often open polls, threads and newly loaded libraries are looked at.
    pub look_every: Duration,
    /// How often values over time are told ([`crate::model::Interval`]); `None` for never. At least
    /// [`Self::SHORTEST_INTERVAL`].
    pub interval: Option<Duration>,
    /// Whether it is told how long tasks are scheduled before they are polled
    /// ([`crate::model::WakeToPoll`]): a further probe, paid for by each wake.
    pub lag: bool,
    /// Tasks that nothing can wake are told of after this long; `None` for never. All live tasks
    /// are read for that now and then.
    pub stuck: Option<Duration>,
    /// Tasks that live for this long, and those whose polls take this long together, are told of;
    /// `None` for never. Costs what `stuck` does, and as
    /// much again beside it.
    pub slow_task: Option<Duration>,
    /// A snapshot is taken when a poll is still open after this long, or all workers are blocked at
    /// once ([`crate::model::Sink::snapshot`]); `None` for never.
    pub snapshot_on: Option<Duration>,
    /// Whether the end tells what every thread does, with its stack
    /// ([`crate::model::Summary::threads`]).
    pub threads: bool,
    /// Whether root futures that cannot be probed are watched instead, by a second session beside
    /// this one.
    pub watch_roots: bool,
    /// Whether a second session watches while the probes are taken away to keep to
    /// [`Self::max_overhead`].
    pub stand_in: bool,
    /// How much of the process's CPU time observation may cost, 0 to 1; `None` for what it costs.
    pub max_overhead: Option<f64>,
    /// Separate debug files, given by the user.
    pub debug_files: Vec<PathBuf>,
    /// Whether files are remembered; nothing is, unless the caller wants it.
    pub cache: Cache,
    /// Whether the kernel side logs (`--log-level debug`).
    pub kernel_log: bool,
    /// The kernel side that other sessions have too; `None` for one of its own.
    pub loads: Option<Arc<Loads>>,
}

impl Options {
    /// The threshold unless the user gives one.
    pub const DEFAULT_THRESHOLD: Duration = Duration::from_millis(10);

    /// When an open poll is reported first, unless the user says so.
    pub const DEFAULT_OPEN_AFTER: Duration = Duration::from_secs(1);

    /// How often a session looks, unless the caller says so: four times a second.
    pub const DEFAULT_LOOK: Duration = Duration::from_millis(250);

    /// The shortest interval: each look reads the state of every thread.
    pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

    /// Options for a process, with the defaults.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            program: None,
            runtimes: RUNTIMES,
            threshold: Self::DEFAULT_THRESHOLD,
            auto_threshold: None,
            mode: Mode::Exact,
            threshold_dial: None,
            duration: None,
            min_block: None,
            sample_hz: 499,
            stacks: true,
            report_open_after: Self::DEFAULT_OPEN_AFTER,
            look_every: Self::DEFAULT_LOOK,
            interval: None,
            lag: false,
            stuck: None,
            slow_task: None,
            snapshot_on: None,
            threads: false,
            watch_roots: true,
            stand_in: true,
            max_overhead: None,
            debug_files: Vec::new(),
            cache: Cache::Off,
            kernel_log: false,
            loads: None,
        }
    }

    /// Whether polls are timed by their entries alone, without return probes.
    pub fn is_light(&self) -> bool {
        self.mode == Mode::Light
    }

    /// Whether there are no probes, or only now and then.
    pub fn is_watch(&self) -> bool {
        !self.mode.counts_polls()
    }

    /// Whether root futures that cannot be probed are watched: not beside watching, and not with a
    /// budget, which is kept by one session alone.
    pub(super) fn wants_roots(&self) -> bool {
        self.watch_roots && !self.is_watch() && self.max_overhead.is_none()
    }

    /// Whether another session watches while the probes are away.
    pub(super) fn wants_stand_in(&self) -> bool {
        self.stand_in && !self.is_watch() && self.max_overhead.is_some()
    }

    /// Those of a session beside one with these, which has to tell of nothing but long polls.
    #[must_use]
    pub(super) fn beside(&self) -> Self {
        Self {
            threshold_dial: None,
            duration: None,
            interval: None,
            lag: false,
            stuck: None,
            slow_task: None,
            snapshot_on: None,
            threads: false,
            watch_roots: false,
            stand_in: false,
            max_overhead: None,
            ..self.clone()
        }
    }

    /// From which duration on a poll is long.
    pub fn threshold(&self) -> Threshold {
        self.auto_threshold
            .map_or(Threshold::Fixed(self.threshold), Threshold::Auto)
    }

    /// The same with another threshold.
    #[must_use]
    pub fn with_threshold(self, threshold: Threshold) -> Self {
        Self {
            threshold: threshold.first(),
            auto_threshold: match threshold {
                Threshold::Fixed(_) => None,
                Threshold::Auto(bounds) => Some(bounds),
            },
            ..self
        }
    }

    /// Which off-CPU stretches get a stack, with the threshold as it is now.
    pub fn least_block(&self) -> Duration {
        let by_threshold = || (self.threshold / 10).min(Duration::from_millis(1));
        self.min_block.unwrap_or_else(by_threshold)
    }
}
