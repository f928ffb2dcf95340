//! Values over time: an event an interval, and what snapshots have of them.

use std::{io, time::Duration};

use loopprobe_common::thread::Thread;

use super::{Observer, TICK};
use crate::{
    attach::AttachError,
    clock::nanoseconds,
    collect::{headcount::Headcounts, health::Period},
    model::{Event, Sink, TaskKind},
};

impl Observer {
    /// Before the threads are read: what ends from here on belongs to the next look.
    pub(super) fn begin_look(&mut self) -> io::Result<()> {
        self.look = self.health.next_look();
        if let Some(watching) = &mut self.watching {
            watching.looked_ns = self.span.now();
        }
        self.configure()
    }

    /// The values of the time before the session's first look are nobody's.
    pub(super) fn begin_health(&mut self, live_every: Option<Duration>) -> io::Result<()> {
        if live_every.is_some() || self.options.interval.is_some() {
            let counts = Headcounts::of(self.options.runtimes, self.options.pid);
            self.headcounts = Some(counts);
        }
        self.begin_look()?;
        let threads = self.kernel.threads().map_err(io::Error::other)?;
        self.see_health(&threads, self.span.start_ns)?;
        let counted = self.counted().map_err(io::Error::other)?;
        self.interval = Period::begin(self.span.start_ns, counted, None);
        self.since_live = self.interval.clone();
        self.next_interval = self.options.interval.map(|every| self.due_after(every));
        Ok(())
    }

    /// Adds what has been seen since the last look.
    pub(super) fn see_health(&mut self, threads: &[(u32, Thread)], now: u64) -> io::Result<()> {
        let drivers = self.kernel.drivers().map_err(io::Error::other)?;
        let periods = &mut [&mut self.interval, &mut self.since_live];
        let gone = self.health.see(threads, &drivers, now, periods);
        for descriptor in &gone {
            let forgotten = self.kernel.forget_driver(*descriptor);
            forgotten.map_err(io::Error::other)?;
        }
        self.drivers = drivers;
        self.drivers
            .retain(|(descriptor, _)| !gone.contains(descriptor));
        let seen = self.health.take_seen();
        if let Some(headcounts) = &mut self.headcounts {
            let every = self.options.interval.unwrap_or(TICK);
            headcounts.see(seen);
            self.tasks = headcounts.take(&self.images.mapped, nanoseconds(every));
        }
        Ok(())
    }

    /// When the next interval ends, if they are wanted.
    pub(super) fn interval_due(&self) -> u64 {
        self.next_interval.unwrap_or(u64::MAX)
    }

    /// Tells of an interval that is over.
    pub(super) fn tell_interval(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(every) = self.options.interval else {
            return Ok(());
        };
        if now < self.interval_due() {
            return Ok(());
        }
        self.next_interval = Some(
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
        self.see_health(threads, now)?;
        self.end_interval(now, sink)
    }

    fn end_interval(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let counted = self.counted().map_err(io::Error::other)?;
        let (tasks, names) = (self.tasks.as_ref(), &mut self.polls.threads);
        let interval = self.interval.interval(now, counted, tasks, names);
        self.interval = Period::begin(now, counted, self.tasks.clone());
        sink.event(&Event::Interval(interval))
    }

    fn due_after(&self, every: Duration) -> u64 {
        self.span.start_ns.saturating_add(nanoseconds(every))
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
