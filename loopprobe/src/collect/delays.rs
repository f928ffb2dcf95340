//! How long tasks wait from their wake to their poll, as the kernel side has counted it.

use loopprobe_common::{counters::Counter, histogram::Stats};

use super::quantile::quantile;
use crate::{
    attach::{AttachError, Kernel, Plan},
    model::{TaskKind, WakeToPoll},
};

/// What has been counted since the session began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delays {
    stats: Stats,
    unseen: u64,
}

impl Delays {
    /// Of all async tasks by now.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn read(kernel: &Kernel, plan: &Plan) -> Result<Self, AttachError> {
        let mut stats = Stats::default();
        for (index, task) in plan.types.iter().enumerate() {
            if task.kind != TaskKind::Blocking {
                stats.add(&kernel.delays(index as u32)?);
            }
        }
        Self::of(kernel, &stats)
    }

    /// The same, where they have been added up.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn of(kernel: &Kernel, stats: &Stats) -> Result<Self, AttachError> {
        let unseen = kernel.counter(Counter::WakeUnseen)?;
        Ok(Self {
            stats: *stats,
            unseen,
        })
    }

    /// In all.
    pub(super) fn figures(&self) -> WakeToPoll {
        WakeToPoll {
            unseen: self.unseen,
            ..figures(&self.stats)
        }
    }

    /// Since an earlier reading; the longest of them is known otherwise.
    pub(super) fn since(&self, before: &Self, max_ns: u64) -> WakeToPoll {
        let mut stats = Stats {
            polls: self.stats.polls.saturating_sub(before.stats.polls),
            total_ns: self.stats.total_ns.saturating_sub(before.stats.total_ns),
            max_ns,
            ..Stats::default()
        };
        let buckets = self.stats.buckets.iter().zip(&before.stats.buckets);
        for (to, (now, then)) in stats.buckets.iter_mut().zip(buckets) {
            *to = now.saturating_sub(*then);
        }
        WakeToPoll {
            unseen: self.unseen.saturating_sub(before.unseen),
            ..figures(&stats)
        }
    }
}

/// Of some polls.
pub(super) fn figures(stats: &Stats) -> WakeToPoll {
    WakeToPoll {
        count: stats.polls,
        mean_ns: stats.total_ns.checked_div(stats.polls).unwrap_or(0),
        p50_ns: quantile(stats, 0.50),
        p99_ns: quantile(stats, 0.99),
        max_ns: stats.max_ns,
        unseen: 0,
    }
}

#[cfg(test)]
mod tests {
    use loopprobe_common::histogram::bucket;

    use super::*;

    #[test]
    fn an_interval_has_its_own_figures() {
        let mut before = Delays::default();
        before.stats.polls = 1;
        before.stats.max_ns = 1_000_000;
        before.stats.buckets[bucket(1_000_000)] = 1;
        let mut now = before;
        now.stats.polls = 3;
        now.stats.buckets[bucket(1_000)] += 2;
        now.unseen = 4;
        let figures = now.since(&before, 1_010);
        assert_eq!((figures.count, figures.unseen), (2, 4));
        assert_eq!(figures.max_ns, 1_010);
        assert!(figures.p99_ns <= 1_010);
        assert_eq!(now.figures().max_ns, 1_000_000);
    }
}
