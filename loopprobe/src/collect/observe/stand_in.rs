//! Watches while the probes are away, to keep to a budget: a second session tells of polls between
//! bounds until they come back, or until watching costs too much as well.

use std::{collections::HashSet, io};

use super::Observer;
use crate::{
    collect::{
        Options,
        beside::{Beside, Told},
        images::Known,
        source::watch::words_of,
    },
    model::{Event, LongPoll, Mode, Sink, Step},
};

impl Observer {
    /// Whether it can be done: it is known where threads keep what they poll.
    pub(super) fn can_stand_in(&self) -> bool {
        let (words, _) = words_of(self.options.pid, &self.images.watchable, false);
        self.source.stand_in().is_some() && !words.is_empty()
    }

    /// Begins to watch; the probes are gone.
    pub(super) fn begin_stand_in(&mut self) -> io::Result<()> {
        let (words, _) = words_of(self.options.pid, &self.images.watchable, false);
        let known = Known::of(&self.planned, HashSet::new());
        let options = Options {
            mode: Mode::Watch,
            max_overhead: self.options.max_overhead,
            ..self.options.beside()
        };
        let Some(stand_in) = self.source.stand_in_mut() else {
            return Ok(());
        };
        stand_in.beside = Some(Beside::start(
            "loopprobe-watch",
            &stand_in.ready,
            move |teller, stop| {
                Observer::watch_beside(&options, known, &words, false)?.run(teller, stop)
            },
        )?);
        Ok(())
    }

    /// Takes what has been told.
    pub(super) fn hear_stand_in(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(stand_in) = self.source.stand_in_mut() else {
            return Ok(());
        };
        // It fails if it has not been written to.
        let _ = stand_in.ready.read();
        let Some(beside) = &stand_in.beside else {
            return Ok(());
        };
        let is_over = beside.is_over();
        for told in beside.heard() {
            match told {
                Told::Poll(poll) => self.seen_meanwhile(*poll, sink)?,
                Told::Dear(Step::Paused, _) => {
                    self.stop_watching("watching costs too much as well", sink)?;
                }
                Told::Dear(..) | Told::Began(_) => {}
            }
        }
        if is_over {
            self.stand_in_is_over(sink)?;
        }
        Ok(())
    }

    fn seen_meanwhile(&mut self, mut poll: LongPoll, sink: &mut dyn Sink) -> io::Result<()> {
        if !self.cut(&mut poll) {
            return Ok(());
        }
        let stand_in = self.source.stand_in_mut();
        let beside = stand_in.and_then(|stand_in| stand_in.beside.as_mut());
        if beside.is_some_and(|beside| beside.keep(&poll)) {
            self.totals.count_unprobed(&poll);
            self.workers.reported(poll.tid, false);
        }
        sink.event(&Event::LongPoll(poll))
    }

    /// Before its time.
    pub(super) fn stop_watching(&mut self, why: &str, sink: &mut dyn Sink) -> io::Result<()> {
        let stand_in = self.source.stand_in();
        if let Some(beside) = stand_in.and_then(|stand_in| stand_in.beside.as_ref()) {
            beside.end();
        }
        let now = self.span.now();
        let budget = self.budget.as_mut();
        match budget.and_then(|budget| budget.stop_watching(now)) {
            Some(change) => self.tell_blind(change, why, now, sink),
            None => Ok(()),
        }
    }

    fn stand_in_is_over(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let stand_in = self.source.stand_in_mut();
        let Some(beside) = stand_in.and_then(|stand_in| stand_in.beside.take()) else {
            return Ok(());
        };
        // Polls that outlived it are counted as far as it saw them.
        for poll in beside.open.values() {
            self.totals.count_unprobed(poll);
        }
        let why = match beside.join() {
            Ok(summary) => {
                self.totals.spend(&summary);
                if let Some(budget) = &mut self.budget {
                    budget.said.possible_long_polls += summary.possible_long_polls.unwrap_or(0);
                }
                "nothing is watched any more".to_owned()
            }
            Err(why) => format!("polls cannot be watched: {why}"),
        };
        // Its end, and the process's, are told elsewhere.
        if self
            .span
            .end_ns
            .is_some_and(|end_ns| self.span.now() >= end_ns)
            || self.is_gone()
        {
            return Ok(());
        }
        self.stop_watching(&why, sink)
    }

    /// Ends it, and waits for the rest of what it has to tell.
    pub(super) fn end_stand_in(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let stand_in = self.source.stand_in();
        if let Some(beside) = stand_in.and_then(|stand_in| stand_in.beside.as_ref()) {
            beside.end();
            beside.wait();
        }
        self.hear_stand_in(sink)
    }
}
