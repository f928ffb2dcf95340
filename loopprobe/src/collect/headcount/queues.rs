//! For how long the closures of blocking pools wait.

use std::collections::{BTreeMap, VecDeque};

use super::PoolNow;
use crate::runtime::PoolCount;

/// By pool, moments and the closure that came last at each. Closures are numbered and taken in the
/// order in which they come, so the first one of the queue has waited since before the earliest
/// moment at which the last one was not older.
#[derive(Debug, Default)]
pub(super) struct Queues(BTreeMap<u64, VecDeque<(u64, u64)>>);

impl Queues {
    pub(super) fn see(&mut self, pools: &[PoolCount], time_ns: u64) -> Vec<PoolNow> {
        let mut before = std::mem::take(&mut self.0);
        let pools = pools.iter().map(|pool| {
            let mut marks = before.remove(&pool.address.0).unwrap_or_default();
            let oldest_ns = pool.ends.map(|ends| {
                marks.retain(|(_, last)| *last >= ends.first);
                if marks.back().is_none_or(|(_, last)| *last < ends.last) {
                    marks.push_back((time_ns, ends.last));
                }
                let since = marks.front().map_or(time_ns, |(since, _)| *since);
                time_ns.saturating_sub(since)
            });
            if oldest_ns.is_some() {
                self.0.insert(pool.address.0, marks);
            }
            PoolNow {
                count: *pool,
                oldest_ns,
            }
        });
        pools.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        elf::ProcAddr,
        runtime::{PoolState, QueueEnds},
    };

    #[test]
    fn the_first_closure_has_waited_since_the_last_one_was_not_older() {
        let pool = |ends: Option<(u64, u64)>| PoolCount {
            address: ProcAddr(0x1000),
            busy: 1,
            idle: 0,
            queued: 1,
            cap: Some(1),
            ends: ends.map(|(first, last)| QueueEnds { first, last }),
            state: PoolState::Open,
        };
        let mut queues = Queues::default();
        let looks = [
            (100, Some((5, 7)), Some(0)),
            (200, Some((5, 9)), Some(100)),
            // 7 came before 100, 8 between 100 and 200.
            (300, Some((7, 9)), Some(200)),
            (400, Some((8, 12)), Some(200)),
            (500, Some((20, 21)), Some(0)),
            (600, None, None),
            (700, Some((21, 21)), Some(0)),
        ];
        for (time_ns, ends, oldest_ns) in looks {
            let seen = queues.see(&[pool(ends)], time_ns);
            assert_eq!(seen[0].oldest_ns, oldest_ns, "at {time_ns}");
        }
    }
}
