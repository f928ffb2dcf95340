//! A blocking pool all of whose threads are busy while closures wait, and one that keeps its runtime from ending.

use std::{collections::HashSet, io};

use loopprobe_common::thread::Thread;

use super::Observer;
use crate::{
    clock::nanoseconds,
    collect::{doing::Threads, findings::advice, headcount::PoolNow},
    model::{Doing, Evidence, Finding, FindingKind, Pool, Sink, ThreadState},
    runtime::PoolState,
};

/// A closure, or the end of a runtime, that waits for less is not worth a word.
const LEAST_NS: u64 = 500_000_000;

impl Observer {
    /// Pools that have as many threads as they may, all of them busy, while a closure has waited for long.
    pub(super) fn find_exhausted_pools(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        const KIND: FindingKind = FindingKind::PoolExhausted;
        let pools = self.tasks.as_ref().and_then(|tasks| tasks.pools.clone());
        let least_ns = nanoseconds(self.options.threshold).max(LEAST_NS);
        let pools = pools.unwrap_or_default();
        for pool in &pools {
            let Some(oldest_ns) = pool.oldest_ns.filter(|_| is_full(pool)) else {
                continue;
            };
            let subject = pool.count.address.0.to_string();
            if oldest_ns < least_ns || self.findings.goes_on(KIND, &subject, now) {
                continue;
            }
            self.findings.begins(KIND, &subject, now);
            let closures = self.closures_of(pool, &pools, threads);
            let finding = Finding {
                time_ns: now,
                pid: self.options.pid,
                kind: KIND,
                advice: advice::pool_exhausted(&closures),
                evidence: Evidence {
                    since_ns: now.saturating_sub(oldest_ns),
                    duration_ns: oldest_ns,
                    certain: true,
                    pool: Some(told(pool)),
                    threads: closures,
                    ..Evidence::default()
                },
            };
            self.say(finding, sink)?;
        }
        Ok(())
    }

    /// Runtimes whose end waits for the threads of their pools.
    pub(super) fn find_shutdowns(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        const KIND: FindingKind = FindingKind::Shutdown;
        let pools = self.tasks.as_ref().and_then(|tasks| tasks.pools.clone());
        let pools = pools.unwrap_or_default();
        let waited_for = |pool: &&PoolNow| {
            let state = pool.count.state;
            matches!(state, PoolState::Closing { is_waited_for } if is_waited_for)
        };
        let closing: Vec<_> = pools.iter().filter(waited_for).collect();
        let is_closing = |address: &u64| closing.iter().any(|p| p.count.address.0 == *address);
        self.findings
            .closing_ns
            .retain(|address, _| is_closing(address));
        let least_ns = nanoseconds(self.options.threshold).max(LEAST_NS);
        for pool in closing {
            let address = pool.count.address.0;
            let since_ns = *self.findings.closing_ns.entry(address).or_insert(now);
            let duration_ns = now.saturating_sub(since_ns);
            let subject = address.to_string();
            if duration_ns < least_ns || self.findings.goes_on(KIND, &subject, now) {
                continue;
            }
            self.findings.begins(KIND, &subject, now);
            let closures = self.closures_of(pool, &pools, threads);
            let finding = Finding {
                time_ns: now,
                pid: self.options.pid,
                kind: KIND,
                advice: advice::shutdown(&closures),
                evidence: Evidence {
                    since_ns,
                    duration_ns,
                    certain: true,
                    pool: Some(told(pool)),
                    threads: closures,
                    ..Evidence::default()
                },
            };
            self.say(finding, sink)?;
        }
        Ok(())
    }

    /// The threads that run this pool's closures, where those of another one cannot be among them.
    fn closures_of(
        &mut self,
        pool: &PoolNow,
        pools: &[PoolNow],
        threads: &[(u32, Thread)],
    ) -> Vec<ThreadState> {
        let is_other = |other: &&PoolNow| other.count.address != pool.count.address;
        let mut others = pools.iter().filter(is_other);
        if others.any(|other| other.count.busy > 0) {
            return Vec::new();
        }
        let closures = self.closures(threads);
        // More than this pool has: there is one that is not known yet.
        match closures.len() as u64 > pool.count.busy {
            true => Vec::new(),
            false => closures,
        }
    }

    /// The threads on whose stacks a closure of a blocking pool is found, and no worker.
    fn closures(&mut self, threads: &[(u32, Thread)]) -> Vec<ThreadState> {
        let polling = threads
            .iter()
            .filter(|(_, thread)| thread.flags & Thread::POLLED != 0);
        let polling: HashSet<u32> = polling.map(|(_, thread)| thread.tid).collect();
        let Some(stacks) = &mut self.stacks else {
            return Vec::new();
        };
        let mut looked = Threads::of(self.options.pid, &self.planned, stacks);
        let mut found = looked.look(&self.kernel, &polling, &mut self.polls.threads, false);
        found.retain(|thread| thread.doing == Doing::BlockingClosure);
        found
    }
}

fn told(pool: &PoolNow) -> Pool {
    Pool {
        busy: pool.count.busy,
        idle: Some(pool.count.idle),
        queued: Some(pool.count.queued),
        cap: pool.count.cap,
        oldest_ns: pool.oldest_ns,
    }
}

fn is_full(pool: &PoolNow) -> bool {
    pool.count.state == PoolState::Open
        && pool.count.idle == 0
        && pool.count.queued > 0
        && pool.count.cap.is_some_and(|cap| pool.count.busy >= cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{elf::ProcAddr, runtime::PoolCount};

    #[test]
    fn a_pool_that_may_have_more_threads_is_not_full() {
        let full = PoolNow {
            count: PoolCount {
                address: ProcAddr(0x1000),
                busy: 4,
                idle: 0,
                queued: 1,
                cap: Some(4),
                ends: None,
                state: PoolState::Open,
            },
            oldest_ns: Some(1),
        };
        assert!(is_full(&full));
        for change in [
            |pool: &mut PoolCount| pool.cap = Some(5),
            |pool: &mut PoolCount| (pool.busy, pool.idle) = (3, 1),
            |pool: &mut PoolCount| pool.queued = 0,
        ] {
            let mut other = full;
            change(&mut other.count);
            assert!(!is_full(&other), "{other:?}");
        }
    }
}
