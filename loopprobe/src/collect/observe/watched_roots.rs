//! Root futures that cannot be probed, since no symbol says where their thread parks: a second
//! session watches them.
//!
//! It looks at no thread that polls tasks, and tells of polls that wait, between bounds.

use std::{collections::HashSet, io};

use super::{Observer, changes::notice};
use crate::{
    clock::now_ns,
    collect::{
        Options,
        beside::{Beside, Told},
        images::Known,
        source::{WatchedRoots, watch::words_of},
    },
    model::{Event, LongPoll, Mode, Sink, TaskKind},
    runtime::NotWatchable,
};

impl Observer {
    /// Begins once it is known what to watch.
    pub(super) fn watch_roots_too(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let begins = |roots: &WatchedRoots| roots.beside.is_none() && !roots.is_over;
        if !self.source.roots().is_some_and(begins) || self.images.watchable.is_empty() {
            return Ok(());
        }
        // A program that is about to be executed is not mapped yet.
        let (words, _) = words_of(self.options.pid, &self.images.watchable, false);
        let Some(roots) = self.source.roots_mut() else {
            return Ok(());
        };
        if words.is_empty() {
            let mut reasons = self.images.watchable.iter().map(|image| image.words.err());
            roots.is_over = reasons.clone().all(|why| why.is_some());
            // What is not a runtime of that kind has nothing to be seen.
            if roots.is_over && reasons.any(|why| why != Some(NotWatchable::Runtime)) {
                return unseen(
                    "where its threads keep what they poll was not found",
                    now,
                    sink,
                );
            }
            return Ok(());
        }
        let known = Known::of(&self.planned, HashSet::new());
        let options = Options {
            mode: Mode::Watch,
            // Polls that compute would be no more than possible.
            sample_hz: 0,
            ..self.options.beside()
        };
        roots.beside = Some(Beside::start(
            "loopprobe-roots",
            &roots.ready,
            move |teller, stop| {
                Observer::watch_beside(&options, known, &words, true)?.run(teller, stop)
            },
        )?);
        Ok(())
    }

    /// Takes what has been told.
    pub(super) fn hear_roots(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(roots) = self.source.roots_mut() else {
            return Ok(());
        };
        // It fails if it has not been written to.
        let _ = roots.ready.read();
        let Some(beside) = &roots.beside else {
            return Ok(());
        };
        let is_over = beside.is_over();
        for told in beside.heard() {
            match told {
                Told::Poll(poll) => self.watched_root(*poll, sink)?,
                Told::Began(session) => self.roots_began(session.start_ns, sink)?,
                Told::Dear(..) => {}
            }
        }
        if is_over {
            self.roots_are_over(sink)?;
        }
        Ok(())
    }

    fn roots_began(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        if let Some(roots) = self.source.roots_mut() {
            roots.since_ns = Some(now);
        }
        notice(
            sink,
            now,
            "root futures of multi_thread runtimes are watched: their polls that wait are told, between bounds".into(),
        )
    }

    fn watched_root(&mut self, mut poll: LongPoll, sink: &mut dyn Sink) -> io::Result<()> {
        let is_root = poll.task.kind == TaskKind::Root && poll.task.certain;
        if !is_root || !self.cut(&mut poll) {
            return Ok(());
        }
        // Where tasks are polled too, or a loop's turns are seen, the time between tells it all.
        let threads = self.kernel.threads().map_err(io::Error::other)?;
        if threads.iter().any(|(_, thread)| thread.tid == poll.tid) {
            return Ok(());
        }
        let beside = self
            .source
            .roots_mut()
            .and_then(|roots| roots.beside.as_mut());
        if beside.is_some_and(|beside| beside.keep(&poll)) {
            self.totals.count_unprobed(&poll);
            self.workers.reported(poll.tid, false);
        }
        sink.event(&Event::LongPoll(poll))
    }

    fn roots_are_over(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let (is_gone, now) = (self.is_gone(), self.span.now());
        let Some(roots) = self.source.roots_mut() else {
            return Ok(());
        };
        let Some(beside) = roots.beside.take() else {
            return Ok(());
        };
        for poll in beside.open.values() {
            self.totals.count_unprobed(poll);
        }
        if let Some(since_ns) = roots.since_ns.take() {
            self.totals.roots.watched_ns += now.saturating_sub(since_ns);
        }
        match beside.join() {
            Ok(summary) => {
                self.totals.spend(&summary);
                Ok(())
            }
            // The process's end is told elsewhere.
            Err(_) if is_gone => Ok(()),
            Err(why) => {
                roots.is_over = true;
                unseen(&why, now_ns(), sink)
            }
        }
    }

    /// Ends it, and waits for the rest of what it has to tell.
    pub(super) fn end_roots(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(roots) = self.source.roots_mut() else {
            return Ok(());
        };
        roots.is_over = true;
        if let Some(beside) = &roots.beside {
            beside.end();
            beside.wait();
        }
        self.hear_roots(sink)
    }
}

fn unseen(why: &str, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
    notice(
        sink,
        now,
        format!("root futures of multi_thread runtimes are not seen: {why}"),
    )
}
