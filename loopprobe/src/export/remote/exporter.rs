//! Puts a thread and a bounded queue before whatever sends, and counts what does not get through.

use std::{io, time::Duration};

use super::{Counts, End};
use crate::model::{Background, Event, Live, Sink};

/// So many events and snapshots wait at the most. A long poll with its stacks takes some ten
/// kilobytes.
const ROOM: usize = 1_024;
/// Before the queue's own end, so that what fails in that time is counted with its reason.
const GRACE: Duration = Background::GRACE.saturating_sub(Duration::from_millis(200));

/// A sink that sends what it is given to a receiver, from a thread of its own. It never fails: what
/// does not arrive is counted.
pub struct Exporter {
    name: &'static str,
    live_every: Option<Duration>,
    /// Until the session's head: by then loopprobe has given up the rights that the probes took.
    waiting: Option<Box<dyn Sink + Send>>,
    background: Option<Background>,
    counts: Counts,
    end: End,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Exporter").field(&self.name).finish()
    }
}

impl Exporter {
    /// Of what `sink` sends until `end`, counted by it in `counts`. `name` is the thread's.
    pub fn new(
        name: &'static str,
        sink: impl Sink + Send + 'static,
        counts: Counts,
        end: End,
    ) -> Self {
        Self {
            name,
            live_every: sink.live_every(),
            waiting: Some(Box::new(sink)),
            background: None,
            counts,
            end,
        }
    }

    /// What has become of it all, also once the sink is gone.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// What it is called in what is said of it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn finish(&mut self, summary: &Event) {
        let Some(background) = &mut self.background else {
            return;
        };
        self.end.set(GRACE);
        let late = background.event(summary).err();
        let unqueued = background.dropped();
        self.counts
            .end(unqueued, late.map(|error| error.to_string()));
    }
}

impl Sink for Exporter {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Some(sink) = self.waiting.take() {
            self.background = Some(Background::start(self.name, sink, ROOM)?);
        }
        match (event, &mut self.background) {
            (Event::Summary(_), _) => self.finish(event),
            // Nobody sends them.
            (Event::Interval(_), _) | (_, None) => {}
            (_, Some(background)) => background.event(event)?,
        }
        Ok(())
    }

    fn live_every(&self) -> Option<Duration> {
        self.live_every
    }

    fn live(&mut self, live: &Live) -> io::Result<()> {
        match &mut self.background {
            Some(background) => background.live(live),
            None => Ok(()),
        }
    }

    fn dropped(&self) -> u64 {
        let unqueued = self.background.as_ref().map_or(0, Sink::dropped);
        unqueued + self.counts.all_lost()
    }
}
