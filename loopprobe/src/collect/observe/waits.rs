//! Tasks that wait behind long polls: how long in all, and which of them an idle worker could have
//! polled.

use std::io;

use loopprobe_common::{records::DelayRecord, thread::Thread};

use super::Observer;
use crate::{
    collect::findings::{Seen, advice},
    model::{Evidence, Finding, FindingKind, Sink},
};

impl Observer {
    /// Tasks that have been polled long after they were scheduled.
    pub(super) fn delayed(
        &mut self,
        delayed: &[DelayRecord],
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        for record in delayed {
            let behind = self
                .findings
                .recent()
                .filter(|seen| seen.poll.tid == record.tid);
            for seen in behind {
                let ns = seen.overlap_ns(record.woken.ns, record.start_ns);
                if ns > 0 {
                    self.totals.groups.waited(&seen.poll, ns);
                }
            }
        }
        self.find_lifo_slot(delayed, sink)
    }

    /// Tasks that were scheduled inside a long poll and polled behind it on the same thread, while
    /// another worker was parked: from a run queue that one would have taken them. A worker keeps
    /// the task that its poll has woken last for itself (`Core::lifo_slot` in
    /// `runtime/scheduler/multi_thread/worker.rs`); of the versions tried only 1.51.0 lets others
    /// take it.
    fn find_lifo_slot(&mut self, delayed: &[DelayRecord], sink: &mut dyn Sink) -> io::Result<()> {
        const KIND: FindingKind = FindingKind::LifoSlot;
        let by_its_own =
            |record: &&DelayRecord| record.woken.poll_ns != 0 && record.woken.tid == record.tid;
        let kept: Vec<&DelayRecord> = delayed.iter().filter(by_its_own).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let threads = self.kernel.threads().map_err(io::Error::other)?;
        let now = self.span.now();
        for record in kept {
            let keeper = keeper(self.findings.recent(), record, self.least_ns()).cloned();
            let Some(keeper) = keeper else {
                continue;
            };
            let task = self.plan.types.get(record.task_type as usize);
            let task = task.map(|task| task.name.clone());
            let subject = format!("{} {}", record.task_type, keeper.poll.task);
            if self.findings.goes_on(KIND, &subject, record.start_ns) {
                continue;
            }
            let idle = idle_workers(&threads, record, self.findings.recent());
            if idle == 0 {
                continue;
            }
            self.findings.begins(KIND, &subject, record.start_ns);
            let evidence = Evidence {
                since_ns: record.woken.ns,
                duration_ns: record.start_ns - record.woken.ns,
                certain: true,
                tid: Some(record.tid),
                idle_workers: Some(idle),
                task,
                polls: vec![keeper.poll],
                ..Evidence::default()
            };
            let finding = Finding {
                time_ns: now,
                pid: self.options.pid,
                kind: KIND,
                advice: advice::lifo_slot(&evidence),
                evidence,
            };
            self.say(finding, sink)?;
        }
        Ok(())
    }
}

/// The long poll in which a task was scheduled, if that went on for so long.
fn keeper<'a>(
    polls: impl Iterator<Item = &'a Seen>,
    record: &DelayRecord,
    least_ns: u64,
) -> Option<&'a Seen> {
    let woken_ns = record.woken.ns;
    let on_its_thread = polls.filter(|seen| {
        seen.poll.tid == record.tid
            && !seen.may_block
            && seen.poll.start_ns <= woken_ns
            && seen.end_ns() <= record.start_ns
            && seen.end_ns().saturating_sub(woken_ns) >= least_ns
    });
    on_its_thread.max_by_key(|seen| seen.poll.start_ns)
}

/// How many other workers of the same runtime have begun no poll since the task was scheduled, were
/// in no long one then, and parked before it was polled. From a run queue one would have taken it:
/// whoever puts a task there wakes a worker that is parked, and that looks before it parks again.
fn idle_workers<'a>(
    threads: &[(u32, Thread)],
    record: &DelayRecord,
    polls: impl Iterator<Item = &'a Seen>,
) -> u64 {
    let since_ns = record.woken.ns;
    let is_own = |(_, thread): &&(u32, Thread)| thread.tid == record.tid;
    let scheduler = threads.iter().find(is_own).map_or(0, |(_, t)| t.scheduler);
    let busy = polls.filter(|seen| seen.end_ns() > since_ns);
    let busy: Vec<u32> = busy.map(|seen| seen.poll.tid).collect();
    let idle = threads.iter().filter(|(_, thread)| {
        thread.tid != record.tid
            && scheduler != 0
            && thread.scheduler == scheduler
            && thread.flags & Thread::WORKER != 0
            && thread.depth == 0
            && thread.awake_ns == 0
            && thread.off_ns < record.start_ns
            && thread.polls[0].start_ns < since_ns
            && !busy.contains(&thread.tid)
    });
    idle.count() as u64
}

#[cfg(test)]
mod tests {
    use loopprobe_common::wake::Woken;

    use super::*;

    const MS: u64 = 1_000_000;

    fn seen(tid: u32, start_ms: u64, ms: u64) -> Seen {
        Seen::ended(tid, start_ms * MS, ms * MS)
    }

    fn record() -> DelayRecord {
        DelayRecord {
            tid: 1,
            start_ns: 120 * MS,
            woken: Woken {
                ns: 15 * MS,
                poll_ns: 10 * MS,
                tid: 1,
                reserved: 0,
            },
            ..DelayRecord::default()
        }
    }

    #[test]
    fn the_poll_that_has_woken_the_task_keeps_it() {
        let record = record();
        let kept = |polls: &[Seen]| keeper(polls.iter(), &record, 10 * MS).map(|s| s.poll.start_ns);
        assert_eq!(kept(&[seen(1, 10, 100)]), Some(10 * MS));
        // On another thread, over soon, begun later, still open then, or without its worker.
        let mut without = seen(1, 10, 100);
        without.may_block = true;
        let others = [
            seen(2, 10, 100),
            seen(1, 10, 14),
            seen(1, 16, 50),
            seen(1, 10, 200),
            without,
        ];
        assert_eq!(kept(&others), None);
    }
    /// A worker of the runtime that began its last poll and parked then.
    fn worker(tid: u32, polled_ms: u64, parked_ms: u64) -> (u32, Thread) {
        let mut thread = Thread {
            tid,
            flags: Thread::WORKER | Thread::SHARED,
            scheduler: 1,
            off_ns: parked_ms * MS,
            ..Thread::default()
        };
        thread.polls[0].start_ns = polled_ms * MS;
        (tid, thread)
    }

    #[test]
    fn an_idle_worker_parked_while_the_task_waited() {
        let idle = |other: (u32, Thread), polls: &[Seen]| {
            idle_workers(&[worker(1, 10, 0), other], &record(), polls.iter())
        };
        assert_eq!(idle(worker(2, 5, 6), &[]), 1);
        assert_eq!(idle(worker(2, 5, 60), &[]), 1);
        // It parked only afterwards, as one does that had no CPU; has polled something meanwhile;
        // was in a long poll; does not park now; is another runtime's.
        assert_eq!(idle(worker(2, 5, 121), &[]), 0);
        assert_eq!(idle(worker(2, 20, 60), &[]), 0);
        assert_eq!(idle(worker(2, 5, 60), &[seen(2, 5, 40)]), 0);
        let mut other = worker(2, 5, 60);
        other.1.awake_ns = 1;
        assert_eq!(idle(other, &[]), 0);
        other.1.awake_ns = 0;
        other.1.scheduler = 2;
        assert_eq!(idle(other, &[]), 0);
    }
}
