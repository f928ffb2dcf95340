//! Snapshots: what a session knows at one look.

use std::io;

use loopprobe_common::thread::Thread;

use super::Observer;
use crate::{
    clock::nanoseconds,
    collect::{health::Period, live, look::Look, summary::summarize},
    model::{Live, Sink},
};

impl Observer {
    /// Gives the sink a snapshot if one is due.
    pub(super) fn tell_snapshot(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        match sink.live_every() {
            Some(every) if self.live.take(now, every) => self.tell_live(threads, now, false, sink),
            _ => Ok(()),
        }
    }

    /// Gives the sink a snapshot; the figures of the last one are those of the summary.
    pub(super) fn tell_live(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        is_last: bool,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let mut live = self.live(threads, now)?;
        live.lost.unwritten_events = sink.dropped();
        live.is_last = is_last;
        sink.live(&live)
    }

    fn live(&mut self, threads: &[(u32, Thread)], now: u64) -> io::Result<Live> {
        self.totals.possible = self.may_be_long();
        let summary =
            summarize(&self.kernel, &self.plan, self.totals.clone()).map_err(io::Error::other)?;
        let counted = self.counted().map_err(io::Error::other)?;
        let delays = self.delays().map_err(io::Error::other)?;
        let values = &mut self.values;
        let names = &mut self.polls.threads;
        let mut interval = values
            .since_live
            .interval(now, counted, values.tasks.as_ref(), names);
        let wake_to_poll = |now| values.since_live.wake_to_poll(now);
        interval.wake_to_poll = delays.as_deref().and_then(wake_to_poll);
        values.since_live = Period::begin(now, counted, values.tasks.clone()).with_delays(delays);
        let look = Look {
            threads,
            now_ns: now,
            threshold_ns: nanoseconds(self.options.threshold),
        };
        let mut live = live::snapshot(look, &self.plan.types, names, summary, interval);
        if let Some(workers) = self.workers_now(threads) {
            live.workers = workers;
        }
        Ok(live)
    }
}
