//! The end of a session: what is still to be told once no program runs any more, and the summary.

use loopprobe_common::counters::Counter;

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
        self.close()?;
        self.totals.duration_ns = self.span.duration_ns();
        self.kernel.detach();
        self.wait_for_names().map_err(ObserveError::System)?;
        // No program runs any more, so these are the threads as the session's end found them.
        let threads = self.kernel.threads()?;
        self.workers.see(&threads, self.span.start_ns);
        self.records.close();
        if !quiet {
            self.drain(sink, None).map_err(ObserveError::Output)?;
            self.settle_waiting(u64::MAX, sink)
                .map_err(ObserveError::Output)?;
            self.report_left(&threads, true, sink)
                .map_err(ObserveError::Output)?;
            self.report_gaps(&threads, sink)
                .map_err(ObserveError::Output)?;
            let now = self.span.now();
            self.look_for_findings(&threads, now, sink)
                .map_err(ObserveError::Output)?;
            self.tell_last_interval(&threads, sink)
                .map_err(ObserveError::Output)?;
        }
        self.count_open(&threads);
        self.count_watched(&threads);
        self.count_left();
        let ended = self.kernel.counter(Counter::Worker)?;
        self.totals.workers = self.workers.count(&threads, ended, self.span.start_ns);
        self.totals.dead_time = dead_time(&self.options, self.dead_time);
        let unread = self.records.lost();
        self.totals.lost.events += unread.records;
        self.totals.lost.stacks += unread.stacks;
        if let Some(stacks) = &self.stacks {
            self.totals.lost.stacks += stacks.lost.stacks;
            self.totals.lost.incomplete_stacks += stacks.lost.incomplete_stacks;
            self.totals.lost.unresolved_frames += stacks.lost.unresolved_frames;
        }
        self.totals.lost.unwalked_threads = self.stuck.as_ref().map_or(0, Stuck::uncertain);
        if !quiet {
            self.tell_unused(sink).map_err(ObserveError::Output)?;
            if sink.live_every().is_some() {
                self.tell_live(&threads, self.span.now(), true, sink)
                    .map_err(ObserveError::Output)?;
            }
        }
        let (mut summary, _) = summarize(&self.kernel, &self.plan.types, self.totals.clone())?;
        if self.options.threads {
            summary.threads = self.look_at_threads(&threads, true);
        }
        if summary.polls == Some(0) {
            summary.no_polls = self.no_polls(&threads);
        }
        Ok(summary)
    }
}
