//! The share of time, 0 to 1, that each worker was busy between the last two snapshots.

use std::collections::HashMap;

use crate::model::{CurrentPoll, Live, LongPoll};

/// How busy workers were between the last two snapshots: on a CPU, or blocked inside a long poll. A
/// worker that waits in the kernel outside a long poll is idle, but for blocked stretches of polls
/// below the threshold.
#[derive(Debug, Default)]
pub struct Busy {
    shares: HashMap<u32, f64>,
    /// Off-CPU time inside long polls that have ended since the last snapshot, by thread.
    ended_off_ns: HashMap<u32, u64>,
}

impl Busy {
    /// A worker's busy share, from 0 to 1; `None` until it is known.
    pub fn share(&self, tid: u32) -> Option<f64> {
        self.shares.get(&tid).copied()
    }

    /// A long poll has ended.
    pub fn long_poll(&mut self, poll: &LongPoll) {
        let Some(split) = poll.split else { return };
        let off = split.blocked_ns.saturating_add(split.runnable_ns);
        let sum = self.ended_off_ns.entry(poll.tid).or_default();
        *sum = sum.saturating_add(off);
    }

    /// A new snapshot after `old`.
    pub fn update(&mut self, old: &Live, new: &Live) {
        let elapsed = new.time_ns.saturating_sub(old.time_ns);
        let before: HashMap<u32, u64> = old.workers.iter().map(|w| (w.tid, w.off_ns)).collect();
        let ended = std::mem::take(&mut self.ended_off_ns);
        self.shares.clear();
        if new.polls.is_none() {
            return;
        }
        for worker in &new.workers {
            let Some(off_before) = before.get(&worker.tid) else {
                continue;
            };
            let off = worker.off_ns.saturating_sub(*off_before).min(elapsed);
            let in_polls = match &worker.poll {
                // It has been open through all of the time since the last snapshot, or since its
                // start.
                Some(poll) if age(new, poll) >= new.threshold_ns => age(new, poll).min(off),
                _ => 0,
            };
            let ended = ended.get(&worker.tid).copied().unwrap_or(0);
            let idle = off.saturating_sub(in_polls.saturating_add(ended));
            if elapsed > 0 {
                let share = 1.0 - idle as f64 / elapsed as f64;
                self.shares.insert(worker.tid, share.clamp(0.0, 1.0));
            }
        }
    }
}

/// How long a poll has been open for certain, in nanoseconds.
fn age(live: &Live, poll: &CurrentPoll) -> u64 {
    let start_ns = poll.start_ns.unwrap_or(live.time_ns);
    live.time_ns.saturating_sub(start_ns)
}
