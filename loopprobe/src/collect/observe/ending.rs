//! The end of a session: what is still to be told once no program runs any more, and the summary.

use std::io;

use loopprobe_common::{counters::Counter, thread::Thread};

use super::{Observer, settings::dead_time};
use crate::{
    collect::{ObserveError, stuck::Stuck, summary::summarize},
    model::{Sink, Summary},
};

impl Observer {
    pub(super) fn finish(
        &mut self,
        sink: &mut dyn Sink,
        quiet: bool,
    ) -> Result<Summary, ObserveError> {
        if !quiet {
            self.end_beside(sink).map_err(ObserveError::Output)?;
        }
        self.close()?;
        self.totals.duration_ns = self.span.duration_ns();
        self.close_budget();
        self.kernel.detach();
        self.wait_for_names().map_err(ObserveError::System)?;
        // No program runs any more, so these are the threads as the session's end found them.
        let threads = self.kernel.threads()?;
        self.workers.see(&threads, self.span.start_ns);
        self.records.flush();
        if !quiet {
            self.tell_rest(&threads, sink)
                .map_err(ObserveError::Output)?;
        }
        // What was not looked at may have had polls, and threads were forgotten.
        let was_paused = self
            .totals
            .budget
            .is_some_and(|budget| budget.unprobed_ns() > 0 || budget.entry_only_ns > 0);
        self.count_open(&threads);
        let ended = self.kernel.counter(Counter::Worker)?;
        self.totals.workers = self.workers.count(&threads, ended, self.span.start_ns);
        if was_paused {
            self.totals.workers = self.totals.workers.max(self.workers.seen());
        }
        self.totals.dead_time = dead_time(&self.options, self.dead_time);
        self.count_lost();
        if !quiet {
            self.tell_unused(sink).map_err(ObserveError::Output)?;
            if sink.live_every().is_some() {
                self.tell_live(&threads, self.span.now(), true, sink)
                    .map_err(ObserveError::Output)?;
            }
        }
        let (mut summary, _) = summarize(&self.kernel, &self.plan, self.totals.clone())?;
        if self.options.threads {
            summary.threads = self.look_at_threads(&threads, true);
        }
        if summary.polls == Some(0) && !was_paused && !self.images.closed {
            summary.no_polls = self.no_polls(&threads);
        }
        Ok(summary)
    }

    /// What was still in the rings, and what only the end shows.
    fn tell_rest(&mut self, threads: &[(u32, Thread)], sink: &mut dyn Sink) -> io::Result<()> {
        self.drain(sink, None)?;
        self.decide_last_check();
        self.settle_all(threads, self.span.now(), true, sink)?;
        self.report_gaps(threads, sink)?;
        let now = self.span.now();
        self.look_for_findings(threads, now, sink)?;
        self.tell_last_interval(threads, sink)?;
        self.tell_missed_snapshots(sink)
    }

    fn count_lost(&mut self) {
        let lost = &mut self.totals.lost;
        let unread = self.records.lost();
        lost.events += unread.records;
        lost.stacks += unread.stacks;
        if let Some(stacks) = &self.stacks {
            lost.stacks += stacks.lost.stacks;
            lost.incomplete_stacks += stacks.lost.incomplete_stacks;
            lost.unresolved_frames += stacks.lost.unresolved_frames;
        }
        lost.unwalked_threads = self
            .stuck
            .as_ref()
            .map_or(lost.unwalked_threads, Stuck::uncertain);
    }
}
