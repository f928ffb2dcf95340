//! What a session asks of its source: one `match` a question, so that the compiler names all that
//! another source must answer.

use std::io;

use loopprobe_common::{
    records::{ProcessRecord, StackRecord},
    thread::Thread,
};

use super::Observer;
use crate::{
    attach::AttachError,
    collect::{poll_key::PollKey, polls::open_polls, source::Source},
    model::{LongPoll, Sink, Worker},
};

impl Observer {
    /// Before the threads are read.
    pub(super) fn looks_now(&mut self) {
        match &mut self.source {
            Source::Probes(_) => {}
            Source::Watching(watching) => watching.looked_ns = self.span.now(),
        }
    }

    /// Decides what can be decided by now of polls that may be over. `is_end`: or never.
    pub(super) fn settle_all(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        is_end: bool,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        match &self.source {
            Source::Probes(_) => {
                self.settle_waiting(if is_end { u64::MAX } else { now }, sink)?;
                self.report_left(threads, is_end, sink)
            }
            Source::Watching(_) => self.tell_kept_back(is_end, sink),
        }
    }

    /// The open polls that are due to be reported, with what is known of them so far.
    pub(super) fn due(&mut self, threads: &[(u32, Thread)], now: u64) -> Vec<LongPoll> {
        match &self.source {
            Source::Probes(_) => {
                let mut due = self.probed_due(threads, now);
                due.extend(self.due_roots(threads, now));
                due
            }
            Source::Watching(_) => self.watched_due(threads),
        }
    }

    /// The polls that are open for certain, each with its age in nanoseconds.
    pub(super) fn ages(&self, threads: &[(u32, Thread)], now: u64) -> Vec<(PollKey, u64)> {
        match &self.source {
            Source::Probes(_) => {
                let mut ages = Vec::new();
                for (_, thread) in threads {
                    let keys = open_polls(thread)
                        .iter()
                        .map(|poll| (thread.tid, poll.start_ns));
                    let open = keys.filter(|key| self.is_open(thread, *key));
                    ages.extend(open.map(|key| (key, now.saturating_sub(key.1))));
                }
                ages
            }
            Source::Watching(_) => {
                let watched = self.watched_open(threads).into_iter();
                watched
                    .map(|(_, thread, proven)| ((thread.tid, thread.polls[0].start_ns), proven.ns))
                    .collect()
            }
        }
    }

    /// The threads whose state tells when what they are in began.
    pub(super) fn with_beginnings<'a>(&self, threads: &'a [(u32, Thread)]) -> &'a [(u32, Thread)] {
        match &self.source {
            Source::Probes(_) => threads,
            // Only their stacks tell that they are in another poll now.
            Source::Watching(_) => &[],
        }
    }

    /// Counts the long polls that the session's end finds open.
    pub(super) fn count_unended(&mut self, threads: &[(u32, Thread)]) {
        match &self.source {
            Source::Probes(_) => {
                self.count_probed(threads);
                self.count_left();
            }
            Source::Watching(_) => self.count_watched(threads),
        }
    }

    /// How many polls may have been long; `None` where that is known of each.
    pub(super) fn may_be_long(&self) -> Option<u64> {
        match &self.source {
            Source::Probes(_) => None,
            Source::Watching(watching) => Some(watching.possible),
        }
    }

    /// The threads that are in a poll, where their state alone does not say it.
    pub(super) fn workers_now(&mut self, threads: &[(u32, Thread)]) -> Option<Vec<Worker>> {
        match &self.source {
            Source::Probes(_) => None,
            Source::Watching(_) => Some(self.watched_workers(threads)),
        }
    }

    /// Takes a stack of a poll.
    pub(super) fn take_stack(&mut self, record: &StackRecord, bytes: &[u8]) {
        let Some(stacks) = &mut self.stacks else {
            return;
        };
        match &mut self.source {
            Source::Probes(_) => stacks.take(record, bytes),
            Source::Watching(watching) => watching.stack(record, bytes, stacks),
        }
    }

    /// Follows libraries that have been loaded since.
    pub(super) fn look_for_code(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        match &self.source {
            Source::Probes(_) => self.look_for_images(sink),
            Source::Watching(_) => self.look_for_watchable(sink),
        }
    }

    /// Follows the process into another program.
    pub(super) fn follow_program(
        &mut self,
        record: &ProcessRecord,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        match &self.source {
            Source::Probes(_) => self.probe_anew(record, sink),
            Source::Watching(_) => self.watch_anew(sink),
        }
    }

    /// Observes again what has been let go for a while.
    pub(super) fn place_again(&mut self) -> Result<(), AttachError> {
        match &self.source {
            Source::Probes(_) => {
                for image in &self.planned {
                    self.kernel.attach(image)?;
                }
                self.kernel.attach_canary()
            }
            Source::Watching(_) => Ok(()),
        }
    }

    /// Begins and ends sessions beside this one, where there is cause.
    pub(super) fn look_beside(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        match &self.source {
            Source::Probes(_) => self.watch_roots_too(now, sink),
            Source::Watching(_) => self.look_closer(now, sink),
        }
    }

    /// Takes what sessions beside this one have told.
    pub(super) fn hear_beside(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        match &self.source {
            Source::Probes(_) => {
                self.hear_roots(sink)?;
                self.hear_stand_in(sink)
            }
            Source::Watching(_) => {
                self.hear_closer(sink)?;
                self.tell_kept_back(false, sink)
            }
        }
    }

    /// Ends them, and waits for the rest of what they have to tell.
    pub(super) fn end_beside(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        match &self.source {
            Source::Probes(_) => {
                self.end_roots(sink)?;
                self.end_stand_in(sink)
            }
            Source::Watching(_) => self.end_closer(sink),
        }
    }
}
