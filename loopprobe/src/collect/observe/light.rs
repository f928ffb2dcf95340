//! Entry-only timing: polls of which the kernel side does not know when they ended, or not yet.

use std::{collections::HashMap, io};

use loopprobe_common::{
    light::{Question, answer},
    records::{Kind, PollRecord, StackRecord},
    thread::{OpenPoll, Thread},
};

use super::Observer;
use crate::{
    clock::nanoseconds,
    collect::{poll_key::PollKey, polls::open_polls, source::light::is_open, stacks::Left},
    model::{Sink, TaskType},
};

/// How long an answer may take after the poll has ended.
const PATIENCE_NS: u64 = 1_000_000_000;

/// Which poll a record is about.
pub(super) fn key(record: &PollRecord) -> PollKey {
    (record.tid, record.poll.start_ns)
}

impl Observer {
    /// A thread may have left its poll.
    pub(super) fn answer(&mut self, record: &StackRecord, bytes: &[u8]) -> io::Result<()> {
        match self.source.light_mut() {
            Some(light) => light
                .answer(record, bytes, &mut self.kernel)
                .map_err(io::Error::other),
            None => Ok(()),
        }
    }

    /// A poll has ended before the kernel side had an answer, or one that tells; or what would be
    /// the root future's time behind it. The stack has been sent before it, but need not have been
    /// looked at.
    pub(super) fn settle(&mut self, record: PollRecord, sink: &mut dyn Sink) -> io::Result<()> {
        if record.poll.start_ns < self.span.start_ns {
            return Ok(());
        }
        if self.answered(&record) == answer::NONE {
            if let Some(probes) = self.source.probes_mut() {
                probes.unsettled.push(record);
            }
            return Ok(());
        }
        self.conclude(record, sink)
    }

    /// Settles what has an answer by now, or waits for one in vain.
    pub(super) fn settle_waiting(&mut self, now_ns: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let Some(probes) = self.source.probes_mut() else {
            return Ok(());
        };
        for record in std::mem::take(&mut probes.unsettled) {
            if now_ns.saturating_sub(record.end_ns) > PATIENCE_NS {
                self.conclude(record, sink)?;
            } else {
                self.settle(record, sink)?;
            }
        }
        Ok(())
    }

    /// Picks one of the two ends that a poll may have had.
    fn conclude(&mut self, record: PollRecord, sink: &mut dyn Sink) -> io::Result<()> {
        let answer = self.answered(&record);
        if record.kind == Kind::Root as u16 {
            return match answer {
                answer::ENDED => self.gap_ended(&record, sink),
                // It was the poll's time; or that is not known, which is counted with the poll.
                _ => Ok(()),
            };
        }
        let then = until_question(record);
        if is_open(answer) {
            return self.went_on(record, &then, answer, sink);
        }
        if answer != answer::ENDED {
            self.totals.lost.undecided += 1;
        }
        match self.long_ns(&then) {
            Some(_) => self.ended(then, sink),
            None => Ok(()),
        }
    }

    /// A poll was open at its question, where the kernel side has counted it as ended: as
    /// `counted`.
    fn went_on(
        &mut self,
        mut record: PollRecord,
        counted: &PollRecord,
        answer: u32,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let Some(ns) = self.long_ns(&record) else {
            return Ok(());
        };
        if let Some(task) = self.counted_type(&record) {
            let counted_ns = self.long_ns(counted);
            let corrections = &mut self.totals.corrections;
            match counted_ns {
                None => corrections.find_long(&task, ns, duration_ns(counted)),
                Some(counted) => corrections.lengthen(&task, ns, ns.saturating_sub(counted)),
            }
        }
        if answer == answer::PRESUMED {
            record.poll.flags |= OpenPoll::PRESUMED;
        }
        self.ended(record, sink)
    }

    /// The answer to a poll's question. A later stack of the same poll may have shown more than the
    /// place does.
    fn answered(&self, record: &PollRecord) -> u32 {
        let seen_open_ns = self
            .stacks
            .as_ref()
            .map_or(0, |stacks| stacks.seen_open_ns(key(record)));
        if seen_open_ns >= record.question.time_ns {
            return answer::OPEN;
        }
        self.source
            .light()
            .map_or(answer::NONE, |light| light.answered(&record.question.place))
    }

    /// Reports polls that their threads have left. The kernel side learns of it when such a thread
    /// stops next, which may be never. At the session's end, also those that may have ended.
    pub(super) fn report_left(
        &mut self,
        threads: &[(u32, Thread)],
        is_end: bool,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        for (_, thread) in threads {
            let Some((record, answer)) = self.left(thread) else {
                continue;
            };
            if is_open(answer) || (answer != answer::ENDED && !is_end) {
                continue;
            }
            if answer != answer::ENDED {
                self.totals.lost.undecided += 1;
            }
            if let Some(ns) = self.long_ns(&record)
                && !self.is_reported(key(&record))
            {
                let task = self.counted_type(&record);
                self.ended(record, sink)?;
                if let Some(probes) = self.source.probes_mut() {
                    probes.reported.insert(key(&record), (task, ns));
                }
            }
        }
        Ok(())
    }

    /// Whether a poll was reported before the kernel side knew of its end.
    fn is_reported(&self, key: PollKey) -> bool {
        let probes = self.source.probes();
        probes.is_some_and(|probes| probes.reported.contains_key(&key))
    }

    /// The poll that a thread may have left, if the kernel side does not know yet, and what its
    /// place says.
    fn left(&self, thread: &Thread) -> Option<(PollRecord, u32)> {
        let question = thread.question;
        let asked = open_polls(thread)
            .get((question.depth as usize).checked_sub(1)?)
            .filter(|poll| poll.start_ns >= self.span.start_ns)?;
        let light = self.source.light()?;
        let record = PollRecord {
            kind: Kind::Poll as u16,
            target: 0,
            tid: thread.tid,
            end_ns: question.time_ns,
            poll: OpenPoll {
                blocked_ns: question.blocked_ns.saturating_sub(asked.blocked_ns),
                runnable_ns: question.runnable_ns.saturating_sub(asked.runnable_ns),
                ..*asked
            },
            question: Question::default(),
        };
        question
            .place
            .is_some()
            .then(|| (record, light.answered(&question.place)))
    }

    /// Counts the polls that have been reported and that the kernel side has not counted.
    pub(super) fn count_left(&mut self) {
        let reported = self.source.probes().map(|probes| &probes.reported);
        for (task, ns) in reported.into_iter().flat_map(HashMap::values) {
            // A poll of an unknown type has been counted already.
            if let Some(task) = task {
                self.totals.corrections.add(task, *ns);
            }
        }
    }

    /// The type that the kernel side counts a poll as; `None` if it does not count it.
    pub(super) fn counted_type(&self, record: &PollRecord) -> Option<TaskType> {
        self.plan.types.get(type_of(record)).cloned()
    }

    /// How long a poll took, if that was long.
    fn long_ns(&self, record: &PollRecord) -> Option<u64> {
        let dead_ns = self.polls.dead_time.total_ns();
        let duration_ns = record.end_ns.checked_sub(record.poll.start_ns + dead_ns)?;
        (duration_ns >= nanoseconds(self.options.threshold)).then_some(duration_ns)
    }

    /// Whether a poll has not been reported yet and is long. Its stacks may say that it ended
    /// before the kernel side knew.
    pub(super) fn is_news(&mut self, record: &mut PollRecord) -> bool {
        let reported = self.source.probes_mut().map(|probes| &mut probes.reported);
        if reported.is_some_and(|reported| reported.remove(&key(record)).is_some()) {
            return false;
        }
        let left = self
            .stacks
            .as_ref()
            .and_then(|stacks| stacks.left(key(record)));
        match left.filter(|left| left.ns < record.end_ns) {
            Some(left) => self.shorten(record, left),
            None => true,
        }
    }

    /// Takes over that a poll had ended before the kernel side knew. `false` if it is no long poll
    /// then.
    pub(super) fn shorten(&mut self, record: &mut PollRecord, left: Left) -> bool {
        let task = self.counted_type(record);
        let counted_ns = self.long_ns(record);
        record.end_ns = left.ns;
        record.poll.blocked_ns = left.blocked_ns;
        record.poll.runnable_ns = left.runnable_ns;
        let now_ns = self.long_ns(record);
        let corrections = &mut self.totals.corrections;
        match (now_ns, counted_ns, &task) {
            (Some(ns), Some(counted), Some(task)) => corrections.shorten(task, counted - ns),
            (None, Some(counted), Some(task)) => {
                corrections.remove(task, counted, duration_ns(record));
            }
            _ => {}
        }
        now_ns.is_some()
    }
}

/// How long a poll took by its record, in nanoseconds.
fn duration_ns(record: &PollRecord) -> u64 {
    record.end_ns.saturating_sub(record.poll.start_ns)
}

/// Index of the type that the kernel side counts a poll as.
pub(super) fn type_of(record: &PollRecord) -> usize {
    record.poll.task_type as usize
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
