//! What the kernel side has sent: each record to whom it concerns.

use std::io;

use loopprobe_common::{
    records::{Kind, PollRecord, StackRecord},
    thread::OpenPoll,
};

use super::{
    Observer,
    light::{key, type_of},
};
use crate::{
    attach::Record,
    clock::now_ns,
    collect::advice::advise,
    model::{Event, Sink},
};

impl Observer {
    /// Looks at what the kernel side has sent, until `end_ns`.
    pub(super) fn drain(&mut self, sink: &mut dyn Sink, end_ns: Option<u64>) -> io::Result<()> {
        if let Some(messages) = &mut self.messages {
            messages.flush();
        }
        self.records.looked();
        let mut delayed = Vec::new();
        // Not what comes meanwhile: that may be without end.
        for _ in 0..self.records.len() {
            if end_ns.is_some_and(|end_ns| now_ns() >= end_ns) {
                break;
            }
            let Some(bytes) = self.records.next() else {
                break;
            };
            let mut record = Record::parse(&bytes);
            if let Some(record) = &mut record {
                record.name_types(|row| self.kernel.type_of(row));
            }
            if let Some(record) = &record
                && self.is_canarys(record)?
            {
                continue;
            }
            match record {
                // Of a root future's time that is one only if a poll had ended.
                Some(Record::Poll(record)) if record.question.place.is_some() => {
                    self.settle(record, sink)?;
                }
                Some(Record::Poll(record)) => self.ended(record, sink)?,
                Some(Record::Unsettled(record)) => self.settle(record, sink)?,
                Some(Record::Watched(record)) => self.watched(&record, sink)?,
                Some(Record::Stack(record, stack)) => self.stack(&record, stack)?,
                Some(Record::Taker(record)) => {
                    if let Some(stacks) = &mut self.stacks {
                        stacks.taken(&record);
                    }
                }
                Some(Record::Driver(record)) => self.findings.lags.push(record),
                Some(Record::Delay(record)) => delayed.push(record),
                Some(Record::Busy(record)) => self.tell_busy_polls(&record, sink)?,
                // What follows is of the program that runs from here on.
                Some(Record::Process(record)) => self.executed(&record, sink)?,
                None => self.totals.lost.events += 1,
            }
        }
        self.delayed(&delayed, sink)
    }

    /// A poll has ended.
    pub(super) fn ended(&mut self, mut record: PollRecord, sink: &mut dyn Sink) -> io::Result<()> {
        if record.kind == Kind::Root as u16 {
            return self.gap_ended(&record, sink);
        }
        if !self.is_news(&mut record) {
            return Ok(());
        }
        if record.poll.flags & OpenPoll::PRESUMED != 0 {
            self.totals.lost.undecided += 1;
        }
        let Some((record, is_cut)) = self.within(record) else {
            return Ok(());
        };
        let mut poll = self.polls.ended(&record, &self.plan);
        poll.ended = !is_cut;
        if let Some(stacks) = &mut self.stacks {
            stacks.explain(key(&record), &mut poll, record.end_ns);
        }
        if let Some((runtime, _)) = self.plan.served.get(type_of(&record)) {
            advise(&mut poll, *runtime);
        }
        self.totals.groups.add(&poll);
        self.remember(&record, &poll);
        self.workers.reported(record.tid, true);
        if record.poll.outer > 0 {
            self.totals.nested_ns += poll.duration_ns;
        }
        if self.plan.types.get(type_of(&record)).is_none() {
            self.totals.corrections.add(&poll.task, poll.duration_ns);
        }
        sink.event(&Event::LongPoll(poll))
    }

    fn stack(&mut self, record: &StackRecord, bytes: &[u8]) -> io::Result<()> {
        match (&mut self.stacks, &mut self.stuck) {
            _ if record.kind == Kind::Question as u16 => return self.answer(record, bytes),
            _ if record.kind == Kind::Piece as u16 => {
                if let Some(light) = self.source.light_mut() {
                    light.piece(record, bytes);
                }
            }
            (Some(stacks), Some(stuck)) if record.kind == Kind::Scan as u16 => {
                stuck.sample(record, bytes, record.start_ns, stacks);
            }
            (Some(stacks), _) if record.kind == Kind::Waker as u16 => stacks.woken(record, bytes),
            (Some(stacks), _) if record.kind == Kind::Beside as u16 => stacks.beside(record, bytes),
            (Some(_), _) => self.take_stack(record, bytes),
            (None, _) => {}
        }
        Ok(())
    }
}
