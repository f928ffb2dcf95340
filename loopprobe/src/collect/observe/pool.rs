//! A blocking pool all of whose threads are busy while closures wait, and one that keeps its
//! runtime from ending.

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
    /// Pools that have as many threads as they may, all of them busy, while a closure has waited
    /// for long.
    pub(super) fn find_exhausted_pools(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let full = self.pools().into_iter().filter(is_full);
        let waits = full.filter_map(|pool| Some((pool, pool.oldest_ns?)));
        self.tell_waits(
            FindingKind::PoolExhausted,
            waits.collect(),
            threads,
            now,
            sink,
        )
    }

    /// Runtimes whose end waits for the threads of their pools.
    pub(super) fn find_shutdowns(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let mut closing = self.pools();
        closing.retain(|pool| {
            let state = pool.count.state;
            matches!(state, PoolState::Closing { is_waited_for } if is_waited_for)
        });
        let is_closing = |address: &u64| closing.iter().any(|p| p.count.address.0 == *address);
        self.findings
            .closing_ns
            .retain(|address, _| is_closing(address));
        let waits = closing.into_iter().map(|pool| {
            let seen_ns = &mut self.findings.closing_ns;
            let since_ns = *seen_ns.entry(pool.count.address.0).or_insert(now);
            (pool, now.saturating_sub(since_ns))
        });
        let waits = waits.collect();
        self.tell_waits(FindingKind::Shutdown, waits, threads, now, sink)
    }

    /// Tells of pools for which something has waited so long, each occurrence once.
    fn tell_waits(
        &mut self,
        kind: FindingKind,
        waits: Vec<(PoolNow, u64)>,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let least_ns = nanoseconds(self.options.threshold).max(LEAST_NS);
        for (pool, waited_ns) in waits {
            let subject = pool.count.address.0.to_string();
            if waited_ns < least_ns || self.findings.goes_on(kind, &subject, now) {
                continue;
            }
            self.findings.begins(kind, &subject, now);
            let closures = self.closures_of(&pool, threads);
            let finding = Finding {
                time_ns: now,
                pid: self.options.pid,
                kind,
                advice: match kind {
                    FindingKind::Shutdown => advice::shutdown(&closures),
                    _ => advice::pool_exhausted(&closures),
                },
                evidence: Evidence {
                    since_ns: now.saturating_sub(waited_ns),
                    duration_ns: waited_ns,
                    certain: true,
                    pool: Some(told(&pool)),
                    threads: closures,
                    ..Evidence::default()
                },
            };
            self.say(finding, sink)?;
        }
        Ok(())
    }

    fn pools(&self) -> Vec<PoolNow> {
        let pools = self
            .values
            .tasks
            .as_ref()
            .and_then(|tasks| tasks.pools.clone());
        pools.unwrap_or_default()
    }

    /// The threads that run this pool's closures, where those of another one cannot be among them.
    fn closures_of(&mut self, pool: &PoolNow, threads: &[(u32, Thread)]) -> Vec<ThreadState> {
        let is_other = |other: &PoolNow| other.count.address != pool.count.address;
        let pools = self.pools();
        if pools
            .iter()
            .any(|other| is_other(other) && other.count.busy > 0)
        {
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
