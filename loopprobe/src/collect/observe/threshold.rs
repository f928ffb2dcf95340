//! A threshold that changes while the session runs.

use std::{io, time::Duration};

use super::Observer;
use crate::{
    attach::AttachError,
    clock::nanoseconds,
    collect::{
        Options, Threshold, ThresholdDial,
        auto_threshold::{Fit, Fitting},
    },
    model::{Distribution, Event, Notice, Sink, TaskKind},
};

/// What fits the threshold of a session, if it is to be fitted.
pub(super) fn fitting(options: &Options, start_ns: u64) -> Option<Fitting> {
    let bounds = options.auto_threshold?;
    Some(Fitting::new(bounds, start_ns))
}

impl Observer {
    /// Takes over a threshold that was changed from outside.
    pub(super) fn follow_dial(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let dial = self.options.threshold_dial.as_ref();
        let Some(threshold) = dial.and_then(ThresholdDial::take) else {
            return Ok(());
        };
        if let Threshold::Auto(bounds) = threshold
            && self.options.auto_threshold == Some(bounds)
        {
            return Ok(());
        }
        let before = self.options.threshold;
        self.options = self.options.clone().with_threshold(threshold);
        self.fitting = fitting(&self.options, self.span.now());
        if self.options.threshold == before {
            return Ok(());
        }
        self.change_threshold("as was asked for", sink)
    }

    /// Fits the threshold to the polls, where that is wanted.
    pub(super) fn fit_threshold(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        if !self.fitting.as_ref().is_some_and(|fit| fit.is_due(now)) {
            return Ok(());
        }
        let durations = self.durations().map_err(io::Error::other)?;
        let current_ns = nanoseconds(self.options.threshold);
        let Some(fitting) = &mut self.fitting else {
            return Ok(());
        };
        let bounds = fitting.bounds();
        let Some(fit) = fitting.fit(&durations, current_ns, now) else {
            return Ok(());
        };
        let Fit { threshold_ns, .. } = fit;
        self.options.threshold = Duration::from_nanos(threshold_ns);
        self.change_threshold(&fit.why(bounds), sink)
    }

    /// Tells everybody of the new threshold.
    fn change_threshold(&mut self, why: &str, sink: &mut dyn Sink) -> io::Result<()> {
        self.configure()?;
        let threshold = self.options.threshold;
        sink.event(&Event::Notice(Notice {
            time_ns: self.span.now(),
            message: format!("from now on polls >= {threshold:?} are reported: {why}"),
            threshold_ns: Some(nanoseconds(threshold)),
            step: None,
        }))
    }

    /// Of all polls of async tasks so far.
    fn durations(&self) -> Result<Distribution, AttachError> {
        let mut all = loopprobe_common::histogram::Stats::default();
        for (index, task) in self.plan.types.iter().enumerate() {
            if task.kind != TaskKind::Blocking {
                all.add(&self.kernel.stats(index as u32)?);
            }
        }
        Ok(Distribution::from(&all))
    }
}
