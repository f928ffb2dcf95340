//! Snapshots that are taken while the session runs, because a poll has been open for long or all
//! workers are blocked.

use std::{collections::HashSet, io};

use loopprobe_common::thread::Thread;

use super::{Observer, changes::notice};
use crate::{
    clock::nanoseconds,
    collect::{poll_key::PollKey, summary::summarize},
    model::{FindingKind, NoPolls, Sink, ThreadState},
};

/// At most one is taken in this time: it reads the target's files and its tasks, which takes as
/// long as an attach.
const BETWEEN_NS: u64 = 300_000_000_000;

/// What asks for snapshots.
#[derive(Debug, Default)]
pub(super) struct Occasions {
    /// Polls that were found to be open for so long at the last look, so that each asks once.
    known: HashSet<PollKey>,
    /// All workers have been found to be blocked since the last look.
    all_blocked: bool,
    /// Not before.
    next_ns: u64,
    /// How often one was due and none was taken.
    missed: u64,
}

impl Occasions {
    /// Hears of a finding.
    pub(super) fn found(&mut self, kind: FindingKind) {
        self.all_blocked |= kind == FindingKind::AllWorkersBlocked;
    }

    /// Whether a snapshot is to be taken, and because of which of these open polls. `None` for the
    /// finding.
    fn take(&mut self, open: &[(PollKey, u64)], now: u64) -> Option<Option<(PollKey, u64)>> {
        let new: Vec<_> = open
            .iter()
            .filter(|(key, _)| !self.known.contains(key))
            .copied()
            .collect();
        self.known = open.iter().map(|(key, _)| *key).collect();
        let all_blocked = std::mem::take(&mut self.all_blocked);
        let asked = new.len() as u64 + u64::from(all_blocked);
        if asked == 0 {
            return None;
        }
        if now < self.next_ns {
            self.missed += asked;
            return None;
        }
        self.next_ns = now.saturating_add(BETWEEN_NS);
        Some(new.into_iter().max_by_key(|(_, age)| *age))
    }
}

impl Observer {
    /// Takes a snapshot if one is due.
    pub(super) fn take_snapshot(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let Some(age) = self.options.snapshot_on else {
            return Ok(());
        };
        let open = self.open_for(nanoseconds(age), threads, now);
        let Some(because) = self.occasions.take(&open, now) else {
            return Ok(());
        };
        let why = match because {
            Some(((tid, _), age_ns)) => {
                let seconds = age_ns as f64 / 1e9;
                format!(
                    "a poll of thread {}/{tid} has been open for {seconds:.1}s at least",
                    self.polls.threads.get(tid)
                )
            }
            None => "all workers were blocked at once".to_owned(),
        };
        let (mut summary, _) =
            summarize(&self.kernel, &self.plan, self.totals.clone()).map_err(io::Error::other)?;
        summary.duration_ns = now.saturating_sub(self.span.start_ns);
        summary.threads = self.look_at_threads(threads, true);
        summary.no_polls = (summary.polls == Some(0)).then(|| in_short(&summary.threads));
        summary.reason.clone_from(&why);
        match sink.snapshot(&summary) {
            Some(said) => notice(sink, now, format!("{why}: {said}")),
            None => Ok(()),
        }
    }

    /// The polls that have been open for so long, each with its age.
    fn open_for(&self, age_ns: u64, threads: &[(u32, Thread)], now: u64) -> Vec<(PollKey, u64)> {
        let mut open = Vec::new();
        if let Some(stuck) = &self.stuck {
            open.extend(stuck.open_since_attach(now));
        }
        open.extend(self.ages(threads, now));
        open.retain(|(_, ns)| *ns >= age_ns);
        open
    }

    /// Says at the end how many were not taken.
    pub(super) fn tell_missed_snapshots(&self, sink: &mut dyn Sink) -> io::Result<()> {
        let message = match self.occasions.missed {
            0 => return Ok(()),
            missed => format!(
                "snapshots not taken: {missed}, as another one had been within five minutes"
            ),
        };
        notice(sink, self.span.now(), message)
    }
}

/// What threads do, without their stacks.
fn in_short(threads: &[ThreadState]) -> NoPolls {
    let mut threads = threads.to_vec();
    for thread in &mut threads {
        thread.frames.clear();
    }
    NoPolls {
        threads,
        children: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_asks_once_and_five_minutes_lie_between_two_snapshots() {
        let mut occasions = Occasions::default();
        let (first, other) = (((1, 10), 500), ((2, 20), 900));
        assert_eq!(occasions.take(&[], 1_000), None);
        assert_eq!(occasions.take(&[first], 1_000), Some(Some(first)));
        assert_eq!(occasions.take(&[first], 2_000), None);
        assert_eq!(occasions.missed, 0);
        assert_eq!(occasions.take(&[first, other], 3_000), None);
        occasions.found(FindingKind::BusyTask);
        assert_eq!(occasions.take(&[first, other], 4_000), None);
        assert_eq!(occasions.missed, 1);
        // One that is still open is none that is new.
        let later = 1_000 + BETWEEN_NS;
        assert_eq!(occasions.take(&[first, other], later), None);
        occasions.found(FindingKind::AllWorkersBlocked);
        assert_eq!(occasions.take(&[first, other], later), Some(None));
        assert_eq!(occasions.take(&[], later), None);
    }
}
