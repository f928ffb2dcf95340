//! Root futures: what is theirs of the time between polls.

use std::io;

use loopprobe_common::{
    config::UNKNOWN_TYPE,
    records::{Kind, PollRecord, StackSlot},
    thread::{OpenPoll, Thread},
};

use super::{Observer, light::key};
use crate::{
    clock::nanoseconds,
    collect::{
        gap::{Bounds, Gap, Part, Place},
        stacks::bytes_of,
    },
    model::{Event, LongPoll, Sink},
};

impl Observer {
    /// The time between two polls of a thread that has a root future was long.
    pub(super) fn gap_ended(&mut self, record: &PollRecord, sink: &mut dyn Sink) -> io::Result<()> {
        let Some((record, _)) = self.within(*record) else {
            return Ok(());
        };
        let outside_ns = self.report_parts(&record, None, sink)?;
        self.totals.outside_runtime += u64::from(outside_ns > 0);
        self.totals.outside_runtime_ns += outside_ns;
        Ok(())
    }

    /// The end of the session finds threads between two polls.
    pub(super) fn report_gaps(
        &mut self,
        threads: &[(u32, Thread)],
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let now_ns = self.span.now();
        // With no threshold, root futures are not reported.
        let wanted = !self.options.threshold.is_zero();
        let start_ns = self.span.start_ns;
        for (kernel_tid, thread) in threads.iter().filter(|_| wanted) {
            let Some(record) = open_gap(thread, now_ns) else {
                continue;
            };
            if record.poll.start_ns >= start_ns {
                let wait = self.wait_of_root(*kernel_tid, thread);
                self.report_parts(&record, wait.as_deref(), sink)?;
            }
        }
        Ok(())
    }

    /// Root futures that wait, and have for long, with what is known of them so far.
    pub(super) fn due_roots(&mut self, threads: &[(u32, Thread)], now: u64) -> Vec<LongPoll> {
        let threshold_ns = nanoseconds(self.options.threshold);
        let mut due = Vec::new();
        for (kernel_tid, thread) in threads.iter().filter(|_| threshold_ns > 0) {
            let Some(record) = open_gap(thread, now) else {
                continue;
            };
            let age_ns = now.saturating_sub(thread.off_ns.max(self.span.start_ns));
            if record.poll.start_ns < self.span.start_ns
                || thread.off != Thread::OFF_BLOCKED
                || !self.polls.is_due(key(&record), age_ns, threshold_ns)
            {
                continue;
            }
            let Some(wait) = self.wait_of_root(*kernel_tid, thread) else {
                continue;
            };
            let poll = self.polls.of_record(&record, &self.plan);
            let parts = self.parts(&poll, &record, Some(&wait));
            let open = parts.last().filter(|part| part.end_ns == now);
            if let Some(part) = open {
                let poll = self.explained_part(&poll, part, &record, Some(&wait));
                self.workers.reported(record.tid, false);
                due.push(poll);
            }
        }
        due
    }

    /// The stack of a thread that waits between two polls, if a root future is what waits.
    fn wait_of_root(&mut self, kernel_tid: u32, thread: &Thread) -> Option<Box<StackSlot>> {
        let slot = self.kernel.stack_of(kernel_tid, thread, thread.gap_ns)?;
        let place = self.stacks.as_mut()?.place(&slot);
        (place == Place::Inside).then_some(slot)
    }

    /// The root future's parts of a gap. `wait` is the stack of one that is not over.
    fn parts(&self, poll: &LongPoll, record: &PollRecord, wait: Option<&StackSlot>) -> Vec<Part> {
        let gap = Bounds {
            start_ns: poll.start_ns,
            end_ns: record.end_ns,
            split: poll.split.unwrap_or_default(),
            ends_outside: record.poll.flags & OpenPoll::LEFT != 0,
        };
        let mut seen = match &self.stacks {
            Some(stacks) => stacks.gap(key(record), record.end_ns),
            None => Gap::default(),
        };
        if let Some(slot) = wait {
            let (from_ns, to_ns) = (slot.record.start_ns, record.end_ns);
            let blocked_ns = to_ns.saturating_sub(from_ns);
            seen.saw(Place::Inside, from_ns, to_ns, blocked_ns, 0);
        }
        seen.parts(&gap, nanoseconds(self.options.threshold))
    }

    /// A part of a gap as it is told.
    fn explained_part(
        &mut self,
        whole: &LongPoll,
        part: &Part,
        record: &PollRecord,
        wait: Option<&StackSlot>,
    ) -> LongPoll {
        let wait = wait.filter(|_| part.end_ns == record.end_ns);
        let mut poll = whole.clone();
        poll.start_ns = part.start_ns;
        poll.duration_ns = part.end_ns.saturating_sub(part.start_ns);
        poll.split = Some(part.split);
        poll.task.certain = part.certain;
        poll.ended = wait.is_none();
        if let Some(stacks) = &mut self.stacks {
            match wait {
                Some(slot) => {
                    let current = Some((&slot.record, bytes_of(slot)));
                    stacks.explain_open(key(record), &mut poll, current, record.end_ns);
                }
                None => stacks.explain_part(key(record), &mut poll, record.end_ns),
            }
        }
        poll
    }

    /// Reports the root future's parts of a gap; returns how many nanoseconds were not. `wait` is
    /// the stack of one that is not over.
    fn report_parts(
        &mut self,
        record: &PollRecord,
        wait: Option<&StackSlot>,
        sink: &mut dyn Sink,
    ) -> io::Result<u64> {
        let whole = self.polls.ended(record, &self.plan);
        let mut inside_ns = 0;
        for part in self.parts(&whole, record, wait) {
            let poll = self.explained_part(&whole, &part, record, wait);
            inside_ns += poll.duration_ns;
            self.totals.count_unprobed(&poll);
            self.remember(record, &poll);
            self.workers.reported(record.tid, false);
            sink.event(&Event::LongPoll(poll))?;
        }
        if let Some(stacks) = &mut self.stacks {
            stacks.forget(key(record));
        }
        Ok(whole.duration_ns.saturating_sub(inside_ns))
    }
}

/// What the thread has of a gap now. Its end is not known, so it counts only as far as stacks
/// reach.
fn open_gap(thread: &Thread, now_ns: u64) -> Option<PollRecord> {
    let off_ns = match thread.off {
        Thread::OFF_BLOCKED => now_ns.saturating_sub(thread.off_ns),
        _ => 0,
    };
    (thread.gap_ns != 0 && thread.depth == 0 && thread.flags & Thread::SHARED == 0).then(|| {
        PollRecord {
            kind: Kind::Root as u16,
            tid: thread.tid,
            end_ns: now_ns,
            poll: OpenPoll {
                start_ns: thread.gap_ns,
                blocked_ns: thread.blocked_ns.saturating_sub(thread.gap_blocked_ns) + off_ns,
                runnable_ns: thread.runnable_ns.saturating_sub(thread.gap_runnable_ns),
                task_type: UNKNOWN_TYPE,
                flags: OpenPoll::LEFT,
                ..OpenPoll::default()
            },
            ..PollRecord::default()
        }
    })
}
