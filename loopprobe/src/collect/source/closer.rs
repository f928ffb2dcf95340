//! With `--mode auto`: what goes on while some task types are timed exactly, and what came of it.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::Arc,
};

use loopprobe_common::watch::WatchRecord;
use nix::sys::eventfd::EventFd;

use super::suspects::Suspects;
use crate::{
    collect::{Options, beside::Beside},
    model::{LongPoll, Mode, TaskType},
};

/// So many polls that were told of last are known.
const MOST_TOLD: usize = 1024;
/// How long a look has to tell of a poll that is over.
const PATIENCE_NS: u64 = 300_000_000;

/// Looks closer, one look at a time.
pub(crate) struct Closer {
    /// What there is cause to look at.
    pub suspects: Suspects,
    /// The look that goes on.
    pub look: Option<Look>,
    /// What the last look has covered, for what is heard of late.
    pub past: Option<Covered>,
    /// The last polls that looks have told of.
    told: Told,
    /// The last polls that watching has told of.
    watched: Told,
    /// Polls that watching has seen, and of which a look may yet tell.
    waiting: Vec<Waiting>,
    /// Readable when a look has something to tell.
    pub ready: Arc<EventFd>,
    /// Whether there is no use in another one.
    pub has_failed: bool,
}

/// Polls that were told of: thread, beginning and, as far as it is known, end.
#[derive(Debug, Default)]
struct Told(VecDeque<(u32, u64, u64)>);

impl Told {
    fn add(&mut self, poll: &LongPoll) {
        if self.0.len() == MOST_TOLD {
            self.0.pop_front();
        }
        let end_ns = poll.start_ns.saturating_add(poll.duration_ns);
        self.0.push_back((poll.tid, poll.start_ns, end_ns));
    }

    /// Whether one of this thread lies in this time, or some of it.
    fn has(&self, tid: u32, start_ns: u64, end_ns: u64) -> bool {
        let mut told = self.0.iter();
        told.any(|told| told.0 == tid && told.1 < end_ns && start_ns < told.2)
    }
}

/// A poll that is kept back.
struct Waiting {
    record: WatchRecord,
    until_ns: u64,
}

/// A look.
pub(crate) struct Look {
    /// What it sees.
    pub covered: Covered,
    /// Types that share sites with those that are looked at, without all of their own: watching
    /// tells of these.
    pub others: HashSet<TaskType>,
    /// When its time is over.
    pub until_ns: u64,
    /// Whether it has been told to end.
    pub is_ending: bool,
    /// Whether it costs too much.
    pub is_dear: bool,
    /// Its session.
    pub beside: Beside,
    /// Types of which a poll was long.
    pub found: HashSet<TaskType>,
}

/// Which polls a look sees: all of these types that lie between its beginning and its end.
#[derive(Debug)]
pub(crate) struct Covered {
    /// Those types.
    pub types: HashSet<TaskType>,
    /// `u64::MAX` before it has begun.
    pub from_ns: u64,
    /// `None` while it goes on.
    pub to_ns: Option<u64>,
}

impl Covered {
    /// From this time on nothing is seen.
    pub(crate) fn end(&mut self, ns: u64) {
        self.to_ns = Some(self.to_ns.map_or(ns, |earlier| earlier.min(ns)));
    }

    fn has(&self, task: &TaskType, start_ns: u64, end_ns: u64) -> bool {
        self.from_ns <= start_ns
            && self.to_ns.is_none_or(|to_ns| end_ns <= to_ns)
            && self.types.contains(task)
    }
}

impl Closer {
    /// For these options; `None` where nobody wants it.
    pub(crate) fn of(options: &Options) -> io::Result<Option<Self>> {
        if options.mode != Mode::Auto {
            return Ok(None);
        }
        Ok(Some(Self {
            suspects: Suspects::default(),
            look: None,
            past: None,
            told: Told::default(),
            watched: Told::default(),
            waiting: Vec::new(),
            ready: Beside::event()?,
            has_failed: false,
        }))
    }

    /// Whether a look sees, or has seen, all polls of the type that lie in this time.
    pub(crate) fn covers(&self, task: &TaskType, start_ns: u64, end_ns: u64) -> bool {
        let now = self.look.as_ref().map(|look| &look.covered);
        now.into_iter()
            .chain(&self.past)
            .any(|covered| covered.has(task, start_ns, end_ns))
    }

    /// Whether a look has told of a poll of this thread in this time.
    pub(crate) fn has_told(&self, tid: u32, start_ns: u64, end_ns: u64) -> bool {
        self.told.has(tid, start_ns, end_ns)
    }

    /// Whether watching has told of a poll that a look tells of now.
    pub(crate) fn has_watched(&self, poll: &LongPoll) -> bool {
        let end_ns = poll.start_ns.saturating_add(poll.duration_ns);
        self.watched.has(poll.tid, poll.start_ns, end_ns)
    }

    /// Keeps in mind that a look has told of a poll.
    pub(crate) fn told(&mut self, poll: &LongPoll) {
        self.told.add(poll);
    }

    /// The same of one that watching has told of.
    pub(crate) fn watched(&mut self, poll: &LongPoll) {
        self.watched.add(poll);
    }

    /// Keeps a poll back if a look may yet tell of it. Whose it is need not be known for that: the
    /// task of a connection that is closed at once is gone before its header can be read.
    pub(crate) fn keeps_back(&mut self, record: &WatchRecord, now_ns: u64) -> bool {
        let now = self.look.as_ref().map(|look| &look.covered);
        let mut looks = now.into_iter().chain(&self.past);
        let until_ns = now_ns.saturating_add(PATIENCE_NS);
        let may_tell = looks.any(|covered| {
            let end_ns = covered.to_ns.map(|ns| ns.saturating_add(PATIENCE_NS));
            covered.from_ns <= record.hi_ns && end_ns.is_none_or(|end_ns| now_ns < end_ns)
        });
        if may_tell {
            let record = *record;
            self.waiting.push(Waiting { record, until_ns });
        }
        may_tell
    }

    /// Those that have waited long enough, or of which a look has told. `is_end`: all of them.
    pub(crate) fn release(&mut self, now_ns: u64, is_end: bool) -> Vec<WatchRecord> {
        let told = &self.told;
        let is_over = |waiting: &mut Waiting| {
            let record = &waiting.record;
            let is_told = told.has(record.tid, record.first_ns, record.last_ns);
            is_end || is_told || now_ns >= waiting.until_ns
        };
        let over = self.waiting.extract_if(.., is_over);
        over.map(|waiting| waiting.record).collect()
    }

    /// Ends the look that goes on, if there is one.
    pub(crate) fn end(&mut self) {
        if let Some(look) = &mut self.look {
            look.is_ending = true;
            look.beside.end();
        }
    }

    /// The process has executed another program.
    pub(crate) fn forget(&mut self) {
        self.suspects.clear();
        self.past = None;
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_is_cut_short_covers_nothing_behind_the_cut() {
        let task = TaskType::unknown(1);
        let mut covered = Covered {
            types: HashSet::from([task.clone()]),
            from_ns: 10,
            to_ns: None,
        };
        assert!(covered.has(&task, 20, 40));
        // Its probes are gone from 30 on, and its session ends at 50.
        covered.end(30);
        covered.end(50);
        assert!(covered.has(&task, 20, 30));
        assert!(!covered.has(&task, 20, 40));
    }
}
