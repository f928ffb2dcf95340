//! Holds a report back until there is something to tell, so a program without a loop gets none.

use std::{io, time::Duration};

use crate::model::{Event, Live, Sink};

/// Keeps a report back until there is something to tell: a long poll, or the end of a session in
/// which tasks were polled. A test program that only lists its tests, or has no event loop, so has
/// no report.
pub(super) struct UntilPolled<S> {
    report: S,
    /// `None` once it is told.
    kept: Option<Vec<Event>>,
}

impl<S: Sink> UntilPolled<S> {
    /// Keeps `report` back.
    pub(super) fn new(report: S) -> Self {
        Self {
            report,
            kept: Some(Vec::new()),
        }
    }
}

impl<S: Sink> Sink for UntilPolled<S> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let tells = match event {
            // Intervals were asked for.
            Event::LongPoll(_) | Event::Interval(_) | Event::Finding(_) => true,
            Event::Summary(summary) => summary.polls != Some(0) || summary.long_polls > 0,
            Event::Session(_) | Event::Notice(_) => false,
        };
        if tells {
            for kept in self.kept.take().into_iter().flatten() {
                self.report.event(&kept)?;
            }
        }
        match &mut self.kept {
            Some(kept) => {
                kept.push(event.clone());
                Ok(())
            }
            None => self.report.event(event),
        }
    }

    fn live_every(&self) -> Option<Duration> {
        self.report.live_every()
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        self.report.live(live)
    }

    fn dropped(&self) -> u64 {
        self.report.dropped()
    }
}
