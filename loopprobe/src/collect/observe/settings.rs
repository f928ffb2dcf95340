//! What the kernel side is told to do.

use std::io;

use loopprobe_common::config::Config;

use super::{Observer, span::Span};
use crate::{
    attach::{AttachError, DeadTime, Kernel},
    clock::nanoseconds,
    collect::{Options, canary::Canary},
    model::Step,
};

impl Observer {
    /// Tells the kernel side what is wanted now.
    pub(super) fn configure(&mut self) -> io::Result<()> {
        let config = self.config();
        self.polls.dead_time = dead_time(&self.options, self.dead_time);
        let thread = self.canary.as_ref().map_or(0, Canary::tid);
        self.kernel.follow(thread).map_err(io::Error::other)?;
        self.kernel.set_config(&config).map_err(io::Error::other)
    }

    /// What is wanted now.
    pub(super) fn config(&self) -> Config {
        let wanted = Config {
            look: self.values.look,
            wakes_from_ns: self.values.wakes_from_ns,
            watched: self.findings.watch.header(),
            ..config(&self.options, self.scans, self.dead_time, self.span)
        };
        match &self.budget {
            Some(budget) if budget.said.step != Step::Full => Config {
                stacks: 0,
                scan: 0,
                end_ns: budget.paused_since().unwrap_or(wanted.end_ns),
                ..wanted
            },
            _ => wanted,
        }
    }
}

/// What a session goes without where [`sample`] may not.
pub(super) const UNSAMPLED: &str = "computing polls have no stacks, and those that began before the attach are not seen: \
     the kernel refuses samples to CAP_PERFMON; run as root (sudo), or: sudo sysctl kernel.perf_event_paranoid=2";

/// Begins to sample; returns the options of the session that comes of it, which has no samples
/// where the kernel refuses them. Debian's kernels do that to CAP_PERFMON where
/// `kernel.perf_event_paranoid` is 3 or more, their default (seen on 6.12).
pub(super) fn sample(
    options: &Options,
    kernel: &mut Kernel,
    measured: DeadTime,
) -> Result<Options, AttachError> {
    let mut options = options.clone();
    if options.sample_hz == 0 {
        return Ok(options);
    }
    let attached = if options.is_watch() {
        kernel.watch_running(options.sample_hz)
    } else {
        kernel.attach_sampler(options.sample_hz)
    };
    match attached {
        Err(error) if error.is_permission() => {
            options.sample_hz = 0;
            kernel.set_config(&config(&options, options.stacks, measured, Span::BEFORE))?;
        }
        result => result?,
    }
    Ok(options)
}

/// What is taken off the durations of the polls that are reported.
pub(super) fn dead_time(options: &Options, measured: DeadTime) -> DeadTime {
    measured.of_polls_over(nanoseconds(options.threshold))
}

pub(super) fn config(options: &Options, scan: bool, measured: DeadTime, span: Span) -> Config {
    let threshold_ns = nanoseconds(options.threshold);
    Config {
        threshold_ns,
        dead_ns: dead_time(options, measured).total_ns(),
        min_block_ns: nanoseconds(options.least_block()),
        sample_after_ns: threshold_ns / 10,
        stacks: u64::from(options.stacks),
        scan: u64::from(scan),
        lazy_headers: u64::from(lazy_headers(options)),
        start_ns: span.start_ns,
        end_ns: span.end_ns.unwrap_or(0),
        ..Config::default()
    }
}

/// Whether headers may be read late: each poll over the threshold is sampled, or leaves its CPU.
pub(super) fn lazy_headers(options: &Options) -> bool {
    // Twice the time between samples: they may be late by a little.
    let samples_a_threshold =
        nanoseconds(options.threshold).saturating_mul(u64::from(options.sample_hz)) / 1_000_000_000;
    // The polls of a task are added up by its id, which only its header has.
    samples_a_threshold >= 2 && options.slow_task.is_none()
}
