//! Values over time: an event an interval, and what snapshots have of them.

use std::{io, time::Duration};

use loopprobe_common::{health::Driver, thread::Thread};

use super::Observer;
use crate::{
    attach::AttachError,
    clock::nanoseconds,
    collect::{
        delays::Delays,
        headcount::{Headcount, Headcounts},
        health::Period,
    },
    model::{Event, Sink, TaskKind},
};

/// What is known of the loop over time.
#[derive(Default)]
pub(super) struct Values {
    /// `None` if nobody wants to know how many tasks there are.
    pub(super) headcounts: Option<Headcounts>,
    /// What they said at the look under way, where that is known.
    pub(super) tasks: Option<Headcount>,
    /// The look under way.
    pub(super) look: u64,
    /// Of the interval that is under way, and when it ends if they are wanted.
    pub(super) interval: Period,
    pub(super) next_interval: Option<u64>,
    /// Since the last snapshot.
    pub(super) since_live: Period,
    /// Wakes from before then are not counted.
    pub(super) wakes_from_ns: u64,
    /// As the look under way has found them.
    pub(super) drivers: Vec<(u32, Driver)>,
}

impl Observer {
    /// Before the threads are read: what ends from here on belongs to the next look.
    pub(super) fn begin_look(&mut self) -> io::Result<()> {
        self.values.look = self.health.next_look();
        self.looks_now();
        self.configure()
    }

    /// The values of the time before the session's first look are nobody's.
    pub(super) fn begin_health(&mut self, live_every: Option<Duration>) -> io::Result<()> {
        if live_every.is_some() || self.options.interval.is_some() {
            let counts = Headcounts::of(self.options.runtimes, self.options.pid);
            self.values.headcounts = Some(counts);
        }
        self.begin_look()?;
        let threads = self.kernel.threads().map_err(io::Error::other)?;
        self.see_health(&threads, self.span.start_ns, true)?;
        let counted = self.counted().map_err(io::Error::other)?;
        let delays = self.delays().map_err(io::Error::other)?;
        self.values.interval = Period::begin(self.span.start_ns, counted, None).with_delays(delays);
        self.values.since_live = self.values.interval.clone();
        self.values.next_interval = self.options.interval.map(|every| self.due_after(every));
        Ok(())
    }

    /// Adds what has been seen since the last look.
    /// `is_told`: an event with it follows.
    pub(super) fn see_health(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        is_told: bool,
    ) -> io::Result<()> {
        let drivers = self.kernel.drivers().map_err(io::Error::other)?;
        if self.kernel.has_lag() {
            let over = self.values.look.saturating_sub(1);
            let longest_ns = self.kernel.longest_delay(over).map_err(io::Error::other)?;
            self.values.interval.delayed(longest_ns);
            self.values.since_live.delayed(longest_ns);
        }
        let periods = &mut [&mut self.values.interval, &mut self.values.since_live];
        let gone = self.health.see(threads, &drivers, now, periods);
        for descriptor in &gone {
            let forgotten = self.kernel.forget_driver(*descriptor);
            forgotten.map_err(io::Error::other)?;
        }
        self.values.drivers = drivers;
        self.values
            .drivers
            .retain(|(descriptor, _)| !gone.contains(descriptor));
        let seen = self.health.take_seen();
        if let Some(headcounts) = &mut self.values.headcounts {
            let every = self.options.interval.unwrap_or(self.options.look_every);
            headcounts.see(seen);
            self.values.tasks = headcounts.take(&self.images.mapped, nanoseconds(every), is_told);
        }
        Ok(())
    }

    /// When the next interval ends, if they are wanted.
    pub(super) fn interval_due(&self) -> u64 {
        self.values.next_interval.unwrap_or(u64::MAX)
    }

    /// Tells of an interval that is over.
    pub(super) fn tell_interval(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(every) = self.options.interval else {
            return Ok(());
        };
        if now < self.interval_due() {
            return Ok(());
        }
        self.values.next_interval = Some(
            self.interval_due()
                .saturating_add(nanoseconds(every))
                .max(now),
        );
        self.end_interval(now, sink)
    }

    /// Tells of the interval that the session's end cuts off, if at least half of it is over.
    pub(super) fn tell_last_interval(
        &mut self,
        threads: &[(u32, Thread)],
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let now = self.span.now();
        let Some(every) = self.options.interval else {
            return Ok(());
        };
        if self.interval_due().saturating_sub(now) > nanoseconds(every) / 2 {
            return Ok(());
        }
        // Nothing changes any more, so what is over belongs to the look under way.
        self.health.next_look();
        self.see_health(threads, now, true)?;
        self.end_interval(now, sink)
    }

    fn end_interval(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let counted = self.counted().map_err(io::Error::other)?;
        let (tasks, names) = (self.values.tasks.as_ref(), &mut self.polls.threads);
        let mut interval = self.values.interval.interval(now, counted, tasks, names);
        let delays = self.delays().map_err(io::Error::other)?;
        let wake_to_poll = |now| self.values.interval.wake_to_poll(now);
        interval.wake_to_poll = delays.as_deref().and_then(wake_to_poll);
        self.values.interval =
            Period::begin(now, counted, self.values.tasks.clone()).with_delays(delays);
        sink.event(&Event::Interval(interval))
    }

    fn due_after(&self, every: Duration) -> u64 {
        self.span.start_ns.saturating_add(nanoseconds(every))
    }

    /// From wake to poll so far, where that is wanted.
    pub(super) fn delays(&self) -> Result<Option<Box<Delays>>, AttachError> {
        if !self.kernel.has_lag() {
            return Ok(None);
        }
        Delays::read(&self.kernel, &self.plan).map(|delays| Some(Box::new(delays)))
    }

    /// Polls of async tasks so far, and how many of them were long.
    pub(super) fn counted(&self) -> Result<(u64, u64), AttachError> {
        let (mut polls, mut long) = (0, 0);
        for (index, task) in self.plan.types.iter().enumerate() {
            if task.kind != TaskKind::Blocking {
                let stats = self.kernel.stats(index as u32)?;
                polls += stats.polls;
                long += stats.long;
            }
        }
        Ok((polls, long))
    }
}
