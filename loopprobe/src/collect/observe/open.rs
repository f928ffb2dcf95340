//! Polls that are still open: while the session runs, and at its end.

use std::{collections::HashSet, io};

use loopprobe_common::thread::Thread;

use super::Observer;
use crate::{
    clock::nanoseconds,
    collect::{
        advice::advise, deadlock, look::Look, poll_key::PollKey, polls::open_polls,
        stacks::bytes_of, stuck::Stuck,
    },
    model::{Event, LongPoll, Notice, Sink},
};

impl Observer {
    /// Reports the open polls that are due.
    pub(super) fn report_open(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let polling = self.polling(threads);
        let mut is_dead = false;
        for mut poll in self.due(threads, now) {
            is_dead |= deadlock::tell(&mut poll, &polling);
            sink.event(&Event::LongPoll(poll))?;
        }
        if is_dead {
            let dead = self.waiting_polls(threads, now);
            self.tell_deadlock(dead, &polling, now, sink)?;
        }
        Ok(())
    }

    /// Those that probes have seen begin.
    pub(super) fn probed_due(&mut self, threads: &[(u32, Thread)], now: u64) -> Vec<LongPoll> {
        let threshold = nanoseconds(self.options.threshold);
        let mut due = Vec::new();
        for (kernel_tid, thread) in threads {
            for (key, mut poll) in self.polls.due(thread, now, threshold, &self.plan) {
                if self.is_open(thread, key) {
                    self.workers.reported(thread.tid, false);
                    self.explain_open(key, &mut poll, *kernel_tid, thread, now);
                    due.push(poll);
                }
            }
        }
        due
    }

    /// Reports polls that began before the attach.
    pub(super) fn look_at_stuck(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let begun = self.with_beginnings(threads);
        let (Some(stacks), Some(stuck)) = (&mut self.stacks, &mut self.stuck) else {
            return Ok(());
        };
        let polling: HashSet<u32> = stuck.tids().chain(polling(threads)).collect();
        let mut dead = Vec::new();
        let look = Look {
            threads: begun,
            now_ns: now,
            threshold_ns: nanoseconds(self.options.threshold),
        };
        for mut poll in stuck.due(look, &mut self.polls.threads, &self.kernel, stacks) {
            if poll.ended {
                self.totals.count_unprobed(&poll);
            }
            if deadlock::tell(&mut poll, &polling) {
                dead.push((&poll).into());
            }
            self.workers.reported(poll.tid, false);
            sink.event(&Event::LongPoll(poll))?;
        }
        let news = stuck.news();
        let wants_samples = stuck.wants_samples(now);
        self.tell_deadlock(dead, &polling, now, sink)?;
        if let Some(message) = news {
            let time_ns = now;
            sink.event(&Event::Notice(Notice {
                time_ns,
                message,
                threshold_ns: None,
                step: None,
            }))?;
        }
        let scan = wants_samples;
        if scan != self.scans {
            self.scans = scan;
            self.configure()?;
        }
        Ok(())
    }

    /// The threads that have an open poll.
    fn polling(&self, threads: &[(u32, Thread)]) -> HashSet<u32> {
        let stuck = self.stuck.iter().flat_map(Stuck::tids);
        stuck.chain(polling(threads)).collect()
    }

    /// Counts the long polls that the session's end finds open; the kernel side counts at their
    /// end.
    pub(super) fn count_open(&mut self, threads: &[(u32, Thread)]) {
        self.count_unended(threads);
        let now = self.span.now();
        if let (Some(stacks), Some(stuck)) = (&mut self.stacks, &self.stuck) {
            for poll in stuck.still_open(now, &mut self.polls.threads, stacks) {
                self.workers.reported(poll.tid, false);
                self.totals.count_unprobed(&poll);
            }
        }
    }

    /// Those that probes have seen begin.
    pub(super) fn count_probed(&mut self, threads: &[(u32, Thread)]) {
        let now = self.span.now();
        let threshold = nanoseconds(self.options.threshold);
        for (kernel_tid, thread) in threads {
            for (key, mut poll) in self.polls.open(thread, now, threshold, &self.plan) {
                if !self.is_open(thread, key) {
                    continue;
                }
                self.explain_open(key, &mut poll, *kernel_tid, thread, now);
                self.workers.reported(thread.tid, false);
                self.count_uncounted(&poll, task_type(thread, key));
                if is_nested(thread, key) {
                    self.totals.nested_ns += poll.duration_ns;
                }
            }
        }
    }

    /// Whether a poll is one of this session's, and has not ended as far as is known.
    pub(super) fn is_open(&self, thread: &Thread, key: PollKey) -> bool {
        key.1 >= self.span.start_ns && !self.has_ended(thread, key)
    }

    /// Counts a long poll of which probes have seen the beginning or the end at most. `index` is
    /// the type that the kernel side counts it as, where it has seen the beginning.
    fn count_uncounted(&mut self, poll: &LongPoll, index: Option<u32>) {
        self.totals.groups.add(poll);
        let task = index.and_then(|index| self.plan.types.get(index as usize));
        let task = task.unwrap_or(&poll.task);
        self.totals.corrections.add(task, poll.duration_ns);
    }

    /// Whether a poll that the kernel side holds for open has ended; only with entry-only timing.
    fn has_ended(&self, thread: &Thread, key: PollKey) -> bool {
        let left = self.stacks.as_ref().and_then(|stacks| stacks.left(key));
        left.is_some()
            || self
                .source
                .light()
                .is_some_and(|light| light.has_ended(thread, key.1))
    }

    /// Adds what is known so far to a poll that is still open.
    pub(super) fn explain_open(
        &mut self,
        key: PollKey,
        poll: &mut LongPoll,
        kernel_tid: u32,
        thread: &Thread,
        now: u64,
    ) {
        let Some(stacks) = &mut self.stacks else {
            return;
        };
        let slot = self.kernel.stack_of(kernel_tid, thread, key.1);
        let current = slot.as_ref().map(|slot| (&slot.record, bytes_of(slot)));
        stacks.explain_open(key, poll, current, now);
        let index = task_type(thread, key).map_or(usize::MAX, |index| index as usize);
        if let Some((runtime, _)) = self.plan.served.get(index) {
            advise(poll, *runtime);
        }
    }
}

/// Whether a poll began inside another one.
fn is_nested(thread: &Thread, key: PollKey) -> bool {
    open_polls(thread)
        .iter()
        .any(|poll| poll.start_ns == key.1 && poll.outer > 0)
}

fn polling(threads: &[(u32, Thread)]) -> impl Iterator<Item = u32> {
    let open = threads.iter().filter(|(_, thread)| thread.depth > 0);
    open.map(|(_, thread)| thread.tid)
}

/// Index of an open poll's type.
fn task_type(thread: &Thread, key: PollKey) -> Option<u32> {
    let poll = open_polls(thread)
        .iter()
        .find(|poll| poll.start_ns == key.1)?;
    Some(poll.task_type)
}
