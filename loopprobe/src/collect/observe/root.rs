//! Root futures: what is theirs of the time between polls.

use std::io;

use loopprobe_common::{
    config::UNKNOWN_TYPE,
    records::{Kind, PollRecord},
    thread::{OpenPoll, Thread},
};

use super::{Observer, light::key};
use crate::{
    clock::nanoseconds,
    collect::gap::{Bounds, Gap},
    model::{Event, Sink},
};

impl Observer {
    /// The time between two polls of a thread that has a root future was long.
    pub(super) fn gap_ended(&mut self, record: &PollRecord, sink: &mut dyn Sink) -> io::Result<()> {
        let Some((record, _)) = self.within(*record) else {
            return Ok(());
        };
        let outside_ns = self.report_parts(&record, sink)?;
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
        let gaps = threads
            .iter()
            .filter_map(|(_, thread)| open_gap(thread, now_ns));
        let start_ns = self.span.start_ns;
        for record in gaps.filter(|gap| wanted && gap.poll.start_ns >= start_ns) {
            self.report_parts(&record, sink)?;
        }
        Ok(())
    }

    /// Reports the root future's parts of a gap; returns how many nanoseconds were not.
    fn report_parts(&mut self, record: &PollRecord, sink: &mut dyn Sink) -> io::Result<u64> {
        let poll = self.polls.ended(record, &self.plan);
        let gap = Bounds {
            start_ns: poll.start_ns,
            end_ns: poll.start_ns + poll.duration_ns,
            split: poll.split.unwrap_or_default(),
            ends_outside: record.poll.flags & OpenPoll::LEFT != 0,
        };
        let seen = match &self.stacks {
            Some(stacks) => stacks.gap(key(record)),
            None => Gap::default(),
        };
        let mut inside_ns = 0;
        for part in seen.parts(&gap, nanoseconds(self.options.threshold)) {
            let mut poll = poll.clone();
            poll.start_ns = part.start_ns;
            poll.duration_ns = part.end_ns.saturating_sub(part.start_ns);
            poll.split = Some(part.split);
            poll.task.certain = part.certain;
            inside_ns += poll.duration_ns;
            if let Some(stacks) = &mut self.stacks {
                stacks.explain_part(key(record), &mut poll, record.end_ns);
            }
            self.totals.count_unprobed(&poll);
            self.remember(record, &poll);
            self.workers.reported(record.tid, false);
            sink.event(&Event::LongPoll(poll))?;
        }
        if let Some(stacks) = &mut self.stacks {
            stacks.forget(key(record));
        }
        Ok(gap.end_ns.saturating_sub(gap.start_ns + inside_ns))
    }
}

/// What the thread has of a gap now. Its end is not known, so it counts only as far as stacks
/// reach.
fn open_gap(thread: &Thread, now_ns: u64) -> Option<PollRecord> {
    (thread.gap_ns != 0 && thread.depth == 0 && thread.flags & Thread::SHARED == 0).then(|| {
        PollRecord {
            kind: Kind::Root as u16,
            tid: thread.tid,
            end_ns: now_ns,
            poll: OpenPoll {
                start_ns: thread.gap_ns,
                blocked_ns: thread.blocked_ns.saturating_sub(thread.gap_blocked_ns),
                runnable_ns: thread.runnable_ns.saturating_sub(thread.gap_runnable_ns),
                task_type: UNKNOWN_TYPE,
                flags: OpenPoll::LEFT,
                ..OpenPoll::default()
            },
            ..PollRecord::default()
        }
    })
}
