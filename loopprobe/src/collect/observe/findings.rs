//! Findings: what is wrong with a loop as a whole.

use std::{collections::HashSet, io};

use loopprobe_common::{
    records::{LEAST_LAG_NS, PollRecord},
    thread::{OpenPoll, Thread},
};

use super::{Observer, light::type_of};
use crate::{
    clock::nanoseconds,
    collect::{
        doing::Threads,
        findings::{
            Seen, advice,
            together::{Together, all_at_once},
        },
        polls::open_polls,
    },
    elf::ProcAddr,
    model::{
        Cause, Event, Evidence, Finding, FindingCount, FindingKind, FoundPoll, LongPoll, Sink,
        TaskKind,
    },
};

/// How long threads are not looked at again after one that may be a worker was found.
const BETWEEN_WALKS_NS: u64 = 5_000_000_000;

impl Observer {
    /// Remembers a long poll that has ended.
    pub(super) fn remember(&mut self, record: &PollRecord, poll: &LongPoll) {
        let is_async = self
            .plan
            .types
            .get(type_of(record))
            .is_none_or(|task| task.kind == TaskKind::Async);
        if is_async && (poll.task.certain || poll.task.kind != TaskKind::Root) {
            self.findings.ended(Seen {
                poll: poll.into(),
                scheduler: record.poll.scheduler,
                may_block: poll.block_in_place,
            });
        }
    }

    /// Looks for what is wrong now, or was since the last time.
    pub(super) fn look_for_findings(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let open = self.open_now(threads, now);
        self.find_driver_lag(threads, &open, now, sink)?;
        self.find_all_blocked(threads, &open, now, sink)?;
        self.find_busy_task(threads, now, sink)?;
        self.find_exhausted_pools(threads, now, sink)?;
        self.find_shutdowns(threads, now, sink)?;
        self.findings.forget(now);
        Ok(())
    }

    pub(super) fn say(&mut self, finding: Finding, sink: &mut dyn Sink) -> io::Result<()> {
        FindingCount::add(&mut self.totals.findings, finding.kind);
        self.occasions.found(finding.kind);
        sink.event(&Event::Finding(finding))
    }

    /// The shortest time that is told of.
    pub(super) fn least_ns(&self) -> u64 {
        nanoseconds(self.options.threshold).max(LEAST_LAG_NS)
    }

    /// Long polls that are open, without their causes.
    fn open_now(&mut self, threads: &[(u32, Thread)], now: u64) -> Vec<Seen> {
        let mut open = Vec::new();
        let least_ns = self.least_ns();
        for (_, thread) in threads {
            for (key, poll) in self.polls.open(thread, now, least_ns, &self.plan) {
                if self.is_open(thread, key) {
                    open.push(Seen {
                        poll: (&poll).into(),
                        scheduler: scheduler_of(thread, key.1),
                        may_block: poll.block_in_place,
                    });
                }
            }
        }
        open
    }

    /// The same poll with its cause, if it is open.
    pub(super) fn explained(
        &mut self,
        seen: &Seen,
        threads: &[(u32, Thread)],
        now: u64,
    ) -> FoundPoll {
        let of_thread = threads
            .iter()
            .find(|(_, thread)| thread.tid == seen.poll.tid);
        let Some((kernel_tid, thread)) = of_thread.filter(|_| !seen.poll.ended) else {
            return seen.poll.clone();
        };
        let polls = self.polls.open(thread, now, 0, &self.plan);
        let same = |(_, poll): &(_, LongPoll)| poll.start_ns == seen.poll.start_ns;
        match polls.into_iter().find(same) {
            Some((key, mut poll)) => {
                self.explain_open(key, &mut poll, *kernel_tid, thread, now);
                (&poll).into()
            }
            None => seen.poll.clone(),
        }
    }

    /// All workers of a runtime in long polls at once.
    fn find_all_blocked(
        &mut self,
        threads: &[(u32, Thread)],
        open: &[Seen],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        const KIND: FindingKind = FindingKind::AllWorkersBlocked;
        let polls = self.findings.polls(open);
        let schedulers: HashSet<u64> = polls.iter().map(|seen| seen.scheduler).collect();
        for scheduler in schedulers.into_iter().filter(|scheduler| *scheduler != 0) {
            let workers = workers_of(threads, scheduler);
            if workers.len() < 2 {
                continue;
            }
            let Some(together) = all_at_once(&polls, &workers, self.least_ns()) else {
                continue;
            };
            let subject = scheduler.to_string();
            let end_ns = together.since_ns + together.duration_ns;
            if self.findings.goes_on(KIND, &subject, end_ns) {
                continue;
            }
            let is_early = self.findings.next_walk_ns.get(&scheduler) > Some(&now);
            if is_early || !self.are_all_workers(threads, scheduler, &workers) {
                if !is_early {
                    let next_ns = now + BETWEEN_WALKS_NS;
                    self.findings.next_walk_ns.insert(scheduler, next_ns);
                }
                continue;
            }
            self.findings.begins(KIND, &subject, end_ns);
            let finding = self.all_blocked(&together, threads, now);
            self.say(finding, sink)?;
        }
        Ok(())
    }

    fn all_blocked(&mut self, together: &Together, threads: &[(u32, Thread)], now: u64) -> Finding {
        let polls: Vec<FoundPoll> = together
            .polls
            .iter()
            .map(|seen| self.explained(seen, threads, now))
            .collect();
        Finding {
            time_ns: now,
            pid: self.options.pid,
            kind: FindingKind::AllWorkersBlocked,
            advice: advice::all_blocked(&polls),
            evidence: Evidence {
                since_ns: together.since_ns,
                duration_ns: together.duration_ns,
                certain: true,
                workers: Some(polls.len() as u64),
                polls,
                ..Evidence::default()
            },
        }
    }

    /// Whether no other thread can be a worker of this scheduler: one that has polled nothing yet
    /// would be idle.
    fn are_all_workers(
        &mut self,
        threads: &[(u32, Thread)],
        scheduler: u64,
        workers: &HashSet<u32>,
    ) -> bool {
        let others = threads.iter().filter(|(_, thread)| {
            let is_local = thread.flags & Thread::POLLED == Thread::LOCAL;
            let of_another = thread.scheduler != 0 && thread.scheduler != scheduler;
            is_local || (of_another && thread.flags & Thread::WORKER != 0)
        });
        let known: HashSet<u32> = others
            .map(|(_, thread)| thread.tid)
            .chain(workers.iter().copied())
            .collect();
        let pid = self.options.pid;
        self.stacks.as_mut().is_some_and(|stacks| {
            Threads::of(pid, &self.planned, stacks).run_no_closure(&self.kernel, &known)
        })
    }

    /// Polls that wait for each other, told once. Each of `dead` waits for a lock or another
    /// thread, and nothing of the process runs.
    pub(super) fn tell_deadlock(
        &mut self,
        dead: Vec<FoundPoll>,
        polling: &HashSet<u32>,
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        self.findings.deadlocked.retain(|tid| polling.contains(tid));
        let is_told = |poll: &FoundPoll| self.findings.deadlocked.contains(&poll.tid);
        let Some(youngest) = dead.iter().max_by_key(|poll| poll.start_ns) else {
            return Ok(());
        };
        if dead.iter().any(is_told) {
            return Ok(());
        }
        let finding = Finding {
            time_ns: now,
            pid: self.options.pid,
            kind: FindingKind::Deadlock,
            advice: advice::DEADLOCK.to_owned(),
            evidence: Evidence {
                since_ns: youngest.start_ns,
                duration_ns: youngest.duration_ns,
                certain: false,
                polls: dead,
                ..Evidence::default()
            },
        };
        self.findings.deadlocked.extend(polling);
        self.say(finding, sink)
    }

    /// The open polls that wait for a lock or another thread, with their causes.
    pub(super) fn waiting_polls(&mut self, threads: &[(u32, Thread)], now: u64) -> Vec<FoundPoll> {
        let open = self.open_now(threads, now);
        let explained = open.iter().map(|seen| self.explained(seen, threads, now));
        explained
            .filter(|poll| matches!(poll.cause, Some(Cause::Lock | Cause::ThreadWait)))
            .collect()
    }

    /// One task that is polled without end.
    fn find_busy_task(
        &mut self,
        threads: &[(u32, Thread)],
        now: u64,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        const KIND: FindingKind = FindingKind::BusyTask;
        let polled: Vec<OpenPoll> = threads.iter().map(|(_, thread)| thread.polls[0]).collect();
        let of = |header: u64| polled.iter().find(|poll| poll.header == header);
        let memory = crate::process::Memory::of(self.options.pid);
        let served = &self.plan.served;
        let id_of = |header: u64| {
            let (_, served) = served.get(of(header)?.task_type as usize)?;
            let offset = u64::from(served.id_offset);
            memory
                .word(ProcAddr(header.checked_add(offset)?))
                .filter(|id| offset != 0 && *id != 0)
        };
        let threshold_ns = nanoseconds(self.options.threshold);
        let (busy, other) = self.findings.watch.look(threads, now, threshold_ns, id_of);
        let name = busy.and_then(|busy| {
            let poll = of(busy.header)?;
            Some(self.polls.task_type(poll, &self.plan).name)
        });
        if other {
            self.configure()?;
        }
        let Some(busy) = busy else { return Ok(()) };
        let subject = busy.task_id.to_string();
        if self.findings.goes_on(KIND, &subject, busy.since_ns) {
            self.findings.begins(KIND, &subject, now);
            return Ok(());
        }
        self.findings.begins(KIND, &subject, now);
        let finding = Finding {
            time_ns: now,
            pid: self.options.pid,
            kind: KIND,
            advice: advice::BUSY_TASK.to_owned(),
            evidence: Evidence {
                since_ns: busy.since_ns,
                duration_ns: now - busy.since_ns,
                certain: true,
                task: name,
                task_id: Some(busy.task_id),
                polls_per_second: Some(busy.a_second),
                share: Some(busy.share),
                ..Evidence::default()
            },
        };
        self.say(finding, sink)
    }
}

/// The known workers of a scheduler; one whose scheduler is not known may be one.
fn workers_of(threads: &[(u32, Thread)], scheduler: u64) -> HashSet<u32> {
    let theirs = threads.iter().filter(|(_, thread)| {
        thread.flags & Thread::WORKER != 0
            && thread.flags & Thread::SHARED != 0
            && (thread.scheduler == 0 || thread.scheduler == scheduler)
            && !is_in_place(thread)
    });
    theirs.map(|(_, thread)| thread.tid).collect()
}

/// Whether a thread has handed its worker over.
fn is_in_place(thread: &Thread) -> bool {
    let mut open = open_polls(thread).iter();
    open.any(|poll| poll.flags & OpenPoll::BLOCK_IN_PLACE != 0)
}

/// The scheduler of the poll that began then.
fn scheduler_of(thread: &Thread, start_ns: u64) -> u64 {
    let poll = open_polls(thread)
        .iter()
        .find(|poll| poll.start_ns == start_ns);
    poll.map_or(0, |poll| poll.scheduler)
}
