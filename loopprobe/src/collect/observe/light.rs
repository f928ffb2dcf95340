//! Entry-only timing: polls of which the kernel side does not know when they ended, or not yet.

use std::io;

use loopprobe_common::{
    light::{Question, answer},
    records::{Kind, PollRecord, StackRecord},
    thread::{OpenPoll, Thread},
};

use super::Observer;
use crate::{
    clock::nanoseconds,
    collect::polls::{PollKey, open_polls},
    report::Sink,
};

/// Which poll a record is about.
pub(super) fn key(record: &PollRecord) -> PollKey {
    (record.tid, record.poll.start_ns)
}

impl Observer {
    /// A thread may have left its poll.
    pub(super) fn answer(&mut self, record: &StackRecord, bytes: &[u8]) -> io::Result<()> {
        match &mut self.light {
            Some(light) => light
                .answer(record, bytes, &mut self.kernel)
                .map_err(io::Error::other),
            None => Ok(()),
        }
    }

    /// A poll has ended before the kernel side had an answer. The stack came before it, so now there is one.
    pub(super) fn settle(&mut self, record: PollRecord, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(light) = &self.light else {
            return Ok(());
        };
        if record.poll.start_ns < self.span.start_ns {
            return Ok(());
        }
        let answer = light.answered(&record.question.place);
        let then = until_question(record);
        let counted_ns = self.long_ns(&then).unwrap_or(0);
        if answer == answer::OPEN {
            self.totals.unprobed_polls += u64::from(counted_ns == 0);
            self.totals.unprobed_ns += self.long_ns(&record).unwrap_or(0) - counted_ns;
            return self.ended(record, sink);
        }
        if answer != answer::ENDED {
            self.totals.lost.undecided += 1;
        }
        if counted_ns == 0 {
            return Ok(());
        }
        self.ended(then, sink)
    }

    /// Reports polls that their threads have left. The kernel side learns of it when such a thread stops next, which may be
    /// never.
    pub(super) fn report_left(
        &mut self,
        threads: &[(u32, Thread)],
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        for (_, thread) in threads {
            let Some(record) = self.left(thread) else {
                continue;
            };
            if let Some(ns) = self.long_ns(&record)
                && !self.reported.contains_key(&key(&record))
            {
                self.ended(record, sink)?;
                self.reported.insert(key(&record), ns);
            }
        }
        Ok(())
    }

    /// The poll that a thread has left, if the kernel side does not know yet.
    fn left(&self, thread: &Thread) -> Option<PollRecord> {
        let question = thread.question;
        let asked = open_polls(thread)
            .get((question.depth as usize).checked_sub(1)?)
            .filter(|poll| poll.start_ns >= self.span.start_ns)?;
        let light = self.light.as_ref()?;
        let has_left = question.place.is_some() && light.answered(&question.place) == answer::ENDED;
        has_left.then(|| PollRecord {
            kind: Kind::Poll as u32,
            tid: thread.tid,
            end_ns: question.time_ns,
            poll: OpenPoll {
                blocked_ns: question.blocked_ns.saturating_sub(asked.blocked_ns),
                runnable_ns: question.runnable_ns.saturating_sub(asked.runnable_ns),
                ..*asked
            },
            question: Question::default(),
        })
    }

    /// Counts the polls that have been reported and that the kernel side has not counted.
    pub(super) fn count_left(&mut self) {
        self.totals.unprobed_polls += self.reported.len() as u64;
        self.totals.unprobed_ns += self.reported.values().sum::<u64>();
    }

    /// How long a poll took, if that was long.
    fn long_ns(&self, record: &PollRecord) -> Option<u64> {
        let dead_ns = self.polls.dead_time.total_ns();
        let duration_ns = record.end_ns.checked_sub(record.poll.start_ns + dead_ns)?;
        (duration_ns >= nanoseconds(self.options.threshold)).then_some(duration_ns)
    }

    /// Whether a poll has not been reported yet and is long. Its stacks may say that it ended before the kernel side knew.
    pub(super) fn is_news(&mut self, record: &mut PollRecord) -> bool {
        if self.reported.remove(&key(record)).is_some() {
            return false;
        }
        let left_ns = self
            .stacks
            .as_ref()
            .and_then(|stacks| stacks.left(key(record)));
        self.totals
            .shorten(record, left_ns, nanoseconds(self.options.threshold))
    }
}

/// The same poll if it had ended at its question.
fn until_question(record: PollRecord) -> PollRecord {
    PollRecord {
        end_ns: record.question.time_ns,
        poll: OpenPoll {
            blocked_ns: record.question.blocked_ns,
            runnable_ns: record.question.runnable_ns,
            ..record.poll
        },
        ..record
    }
}
