//! The I/O and timer driver that nobody turned.

use std::io;

use loopprobe_common::{health::Driver, records::DriverRecord, thread::Thread};

use super::Observer;
use crate::{
    collect::findings::{Seen, advice},
    model::{Evidence, Finding, FindingKind, Sink},
};

/// A runtime on one thread is told of from here on: a shorter lag is the long poll that is reported
/// anyway.
const LEAST_ON_ONE_THREAD_NS: u64 = 100_000_000;

impl Observer {
    /// Times in which nobody turned a driver, and the poll that kept the thread which had turned
    /// it.
    pub(super) fn find_driver_lag(
        &mut self,
        threads: &[(u32, Thread)],
        open: &[Seen],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let mut lags = std::mem::take(&mut self.findings.lags);
        lags.extend(
            self.values
                .drivers
                .iter()
                .filter_map(|driver| open_lag(driver, now)),
        );
        if lags.is_empty() {
            return Ok(());
        }
        let polls = self.findings.polls(open);
        for lag in lags {
            let shared = worker(threads, lag.tid).is_some_and(|t| t.flags & Thread::SHARED != 0);
            let least_ns = match shared {
                true => self.least_ns(),
                false => self.least_ns().max(LEAST_ON_ONE_THREAD_NS),
            };
            let Some(kept) = keeper(&polls, &lag, least_ns) else {
                continue;
            };
            let subject = format!("{} {}", lag.descriptor, kept.poll.task);
            const KIND: FindingKind = FindingKind::DriverLag;
            if self.findings.goes_on(KIND, &subject, lag.end_ns) {
                continue;
            }
            self.findings.begins(KIND, &subject, lag.end_ns);
            let idle = shared.then(|| idle_workers(threads, &lag));
            let evidence = Evidence {
                since_ns: lag.left_ns,
                duration_ns: lag.end_ns - lag.left_ns,
                certain: true,
                tid: Some(lag.tid),
                idle_workers: idle.filter(|idle| *idle > 0),
                in_polls_ns: Some(in_polls_ns(&polls, &lag)),
                polls: vec![self.explained(kept, threads, now)],
                ..Evidence::default()
            };
            let finding = Finding {
                time_ns: now,
                pid: self.options.pid,
                kind: KIND,
                advice: advice::driver_lag(&evidence),
                evidence,
            };
            self.say(finding, sink)?;
        }
        Ok(())
    }
}

/// The poll that kept the thread which had turned the driver, for at least so long.
fn keeper<'a>(polls: &'a [Seen], lag: &DriverRecord, least_ns: u64) -> Option<&'a Seen> {
    let overlap = |seen: &Seen| seen.overlap_ns(lag.left_ns, lag.end_ns);
    polls
        .iter()
        .filter(|seen| seen.poll.tid == lag.tid && !seen.may_block)
        .filter(|seen| overlap(seen) >= least_ns)
        .max_by_key(|seen| overlap(seen))
}

/// A time without a turn that goes on.
fn open_lag((descriptor, driver): &(u32, Driver), now: u64) -> Option<DriverRecord> {
    (driver.left_ns != 0).then(|| DriverRecord {
        tid: driver.tid,
        left_ns: driver.left_ns,
        end_ns: now.max(driver.left_ns),
        descriptor: *descriptor,
        ..DriverRecord::default()
    })
}

/// How much of a time without a turn the thread that turned last was in long polls. One inside
/// another counts once.
fn in_polls_ns(polls: &[Seen], lag: &DriverRecord) -> u64 {
    let mut spans: Vec<(u64, u64)> = polls
        .iter()
        .filter(|seen| seen.poll.tid == lag.tid)
        .map(|seen| {
            let start_ns = seen.poll.start_ns.max(lag.left_ns);
            (start_ns, seen.end_ns().min(lag.end_ns))
        })
        .collect();
    spans.sort_unstable();
    let mut reached_ns = lag.left_ns;
    let mut total_ns = 0;
    for (start_ns, end_ns) in spans {
        let new_ns = end_ns.saturating_sub(start_ns.max(reached_ns));
        total_ns += new_ns;
        reached_ns = reached_ns.max(end_ns);
    }
    total_ns
}

fn worker(threads: &[(u32, Thread)], tid: u32) -> Option<&Thread> {
    let mut found = threads.iter().filter(|(_, thread)| thread.tid == tid);
    found.next().map(|(_, thread)| thread)
}

/// How many other workers of the same runtime were parked all the time.
fn idle_workers(threads: &[(u32, Thread)], lag: &DriverRecord) -> u64 {
    let scheduler = worker(threads, lag.tid).map_or(0, |thread| thread.scheduler);
    let idle = threads.iter().filter(|(_, thread)| {
        thread.tid != lag.tid
            && scheduler != 0
            && thread.scheduler == scheduler
            && thread.flags & Thread::WORKER != 0
            && thread.awake_ns == 0
            && thread.off_ns <= lag.left_ns
    });
    idle.count() as u64
}
