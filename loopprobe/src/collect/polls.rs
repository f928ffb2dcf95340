//! Long polls: from the kernel side's records, and from polls that are still open.

use std::collections::HashMap;

use loopprobe_common::{
    records::{Kind, PollRecord},
    thread::{OpenPoll, Thread},
};

use super::{Options, poll_key::PollKey, source::watch::Proven, threads::ThreadNames};
use crate::{
    attach::{DeadTime, Plan},
    clock::nanoseconds,
    elf::ProcAddr,
    model::{Bounds, LongPoll, NameSource, Split, TaskKind, TaskType},
    runtime::{Instances, TaskRef},
};

/// Makes the model's long polls.
#[derive(Debug)]
pub(super) struct Polls {
    pid: u32,
    pub(super) threads: ThreadNames,
    pub(super) instances: Instances,
    /// When open polls are reported next, by thread and beginning.
    next_report: HashMap<PollKey, u64>,
    /// How old they are then, in nanoseconds.
    open_after_ns: u64,
    /// What is taken off measured durations.
    pub(super) dead_time: DeadTime,
}

impl Polls {
    /// For a session's process; `dead_time` is taken off measured durations.
    pub(super) fn new(options: &Options, dead_time: DeadTime) -> Self {
        let pid = options.pid;
        Self {
            pid,
            threads: ThreadNames::new(pid),
            instances: Instances::of(options.runtimes, pid),
            next_report: HashMap::new(),
            open_after_ns: nanoseconds(options.report_open_after),
            dead_time,
        }
    }

    /// A poll that has ended.
    pub(super) fn ended(&mut self, record: &PollRecord, plan: &Plan) -> LongPoll {
        self.next_report.remove(&(record.tid, record.poll.start_ns));
        self.of_record(record, plan)
    }

    /// The same, also where it may still be open.
    pub(super) fn of_record(&mut self, record: &PollRecord, plan: &Plan) -> LongPoll {
        let root = record.kind == Kind::Root as u16;
        let dead_ns = if root { 0 } else { self.dead_time.total_ns() };
        let duration_ns = record
            .end_ns
            .saturating_sub(record.poll.start_ns)
            .saturating_sub(dead_ns);
        let split = split(duration_ns, record.poll.blocked_ns, record.poll.runnable_ns);
        let mut poll = LongPoll {
            ended: true,
            ..self.long_poll(record.tid, &record.poll, split, plan)
        };
        if root {
            (poll.task, poll.task_id) = (root_type(), None);
            poll.start_ns = record.poll.start_ns;
        }
        poll
    }

    /// A poll that was watched: open for certain for the proven time, and for `hi_ns` at the most.
    /// Whose it is, is not known yet.
    pub(super) fn watched(
        &mut self,
        tid: u32,
        task_id: u64,
        proven: &Proven,
        hi_ns: Option<u64>,
        ended: bool,
    ) -> LongPoll {
        LongPoll {
            pid: self.pid,
            tid,
            thread: self.threads.get(tid).to_owned(),
            task_id: (task_id != 0).then_some(task_id),
            task: TaskType::unseen(),
            start_ns: proven.start_ns,
            duration_ns: proven.ns,
            bounds: Some(Bounds {
                duration_lo_ns: proven.ns,
                duration_hi_ns: hi_ns,
                certain: true,
            }),
            ended,
            since_before_attach: false,
            block_in_place: false,
            split: Some(proven.split),
            diagnosis: None,
            stacks: Vec::new(),
        }
    }

    /// A poll has ended, and is not reported as open any more.
    pub(super) fn forget(&mut self, key: PollKey) {
        self.next_report.remove(&key);
    }

    /// The polls of a thread that are still open and due to be reported, outermost first.
    pub(super) fn due(
        &mut self,
        thread: &Thread,
        now: u64,
        threshold_ns: u64,
        plan: &Plan,
    ) -> Vec<(PollKey, LongPoll)> {
        let mut polls = self.open(thread, now, threshold_ns, plan);
        polls.retain(|(key, poll)| self.is_due(*key, poll.duration_ns, threshold_ns));
        polls
    }

    /// The polls of a thread that are still open and as long as the threshold already, outermost
    /// first.
    pub(super) fn open(
        &mut self,
        thread: &Thread,
        now: u64,
        threshold_ns: u64,
        plan: &Plan,
    ) -> Vec<(PollKey, LongPoll)> {
        let mut polls = Vec::new();
        for poll in open_polls(thread) {
            let age = now
                .saturating_sub(poll.start_ns)
                .saturating_sub(self.dead_time.start_ns);
            if age >= threshold_ns {
                let split = open_split(thread, poll, age, now);
                let key = (thread.tid, poll.start_ns);
                let poll = self.long_poll(thread.tid, poll, split, plan);
                polls.push((key, poll));
            }
        }
        polls
    }

    pub(super) fn is_due(&mut self, key: PollKey, age: u64, threshold_ns: u64) -> bool {
        let first = threshold_ns.max(self.open_after_ns);
        if age < first {
            return false;
        }
        let next = self.next_report.entry(key).or_insert(first);
        if age < *next {
            return false;
        }
        *next = age.saturating_mul(2);
        true
    }

    /// The type of a poll's task; of a box, that of the future in it.
    pub(super) fn task_type(&mut self, poll: &OpenPoll, plan: &Plan) -> TaskType {
        let index = poll.task_type as usize;
        let told = plan.served.get(index).and_then(|(runtime, served)| {
            let task = TaskRef {
                served,
                header: ProcAddr(poll.header),
                id: poll.task_id,
                beginning: poll.stage,
            };
            self.instances.name(*runtime, &task)
        });
        told.or_else(|| plan.types.get(index).cloned())
            .unwrap_or_else(|| TaskType::unknown(poll.header))
    }

    /// A poll of a task that is still open.
    fn long_poll(&mut self, tid: u32, poll: &OpenPoll, split: Split, plan: &Plan) -> LongPoll {
        LongPoll {
            pid: self.pid,
            tid,
            thread: self.threads.get(tid).to_owned(),
            task_id: (poll.task_id != 0).then_some(poll.task_id),
            task: self.task_type(poll, plan),
            start_ns: poll.start_ns + self.dead_time.start_ns,
            duration_ns: split.on_cpu_ns + split.runnable_ns + split.blocked_ns,
            bounds: None,
            ended: false,
            since_before_attach: false,
            block_in_place: poll.flags & OpenPoll::BLOCK_IN_PLACE != 0,
            split: Some(split),
            diagnosis: None,
            stacks: Vec::new(),
        }
    }
}

/// The polls that are open on a thread, outermost first.
pub(super) fn open_polls(thread: &Thread) -> &[OpenPoll] {
    &thread.polls[..(thread.depth as usize).min(thread.polls.len())]
}

/// The rest of a poll's time was spent on a CPU. The dead time, which has been taken off the
/// duration, may have been spent waiting.
fn split(duration_ns: u64, blocked_ns: u64, runnable_ns: u64) -> Split {
    let blocked_ns = blocked_ns.min(duration_ns);
    let runnable_ns = runnable_ns.min(duration_ns - blocked_ns);
    Split {
        on_cpu_ns: duration_ns - blocked_ns - runnable_ns,
        runnable_ns,
        blocked_ns,
    }
}

/// The same for a poll that is still open, with the stretch that the thread may be off its CPU
/// right now.
fn open_split(thread: &Thread, poll: &OpenPoll, age: u64, now: u64) -> Split {
    let mut blocked = thread.blocked_ns.saturating_sub(poll.blocked_ns);
    let mut runnable = thread.runnable_ns.saturating_sub(poll.runnable_ns);
    let off = now.saturating_sub(thread.off_ns);
    match thread.off {
        Thread::OFF_BLOCKED => blocked += off,
        Thread::OFF_RUNNABLE => runnable += off,
        _ => {}
    }
    split(age, blocked, runnable)
}

pub(super) fn root_type() -> TaskType {
    TaskType {
        name: "the future given to block_on".into(),
        full_name: None,
        name_source: NameSource::None,
        certain: true,
        kind: TaskKind::Root,
        location: None,
        krate: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_the_duration() {
        for (duration, blocked, runnable) in
            [(100, 30, 20), (100, 264, 0), (100, 90, 30), (0, 1, 1)]
        {
            let split = split(duration, blocked, runnable);
            assert_eq!(
                split.on_cpu_ns + split.blocked_ns + split.runnable_ns,
                duration
            );
        }
    }
}
