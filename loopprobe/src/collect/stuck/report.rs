//! What is said of polls that were open at the attach, and when.

use super::{
    PATIENCE_NS, Stuck,
    waiting::{thread_exists, waiting},
};
use crate::{
    attach::Kernel,
    collect::{
        advice::advise, look::Look, poll_key::PollKey, stacks::Stacks, threads::ThreadNames,
    },
    elf::{ProcAddr, VirtAddr},
    model::{LongPoll, TaskType},
    runtime::ServedType,
    unwind::OpenPoll,
};

impl Stuck {
    /// The polls that are due to be reported, or have ended.
    pub(crate) fn due(
        &mut self,
        look: Look<'_>,
        names: &mut ThreadNames,
        kernel: &Kernel,
        stacks: &mut Stacks,
    ) -> Vec<LongPoll> {
        let Look {
            threads, now_ns, ..
        } = look;
        let mut due = Vec::new();
        // What a thread polls now it has begun since, so what it polled before has ended.
        let since = threads.iter().map(|(_, thread)| thread);
        for thread in since.filter(|thread| thread.polls[0].start_ns > self.attach_ns) {
            self.looked.clear(thread.tid);
        }
        if self.looked.wants_any() {
            self.look_at_waiting(kernel, stacks);
            if now_ns > self.attach_ns + PATIENCE_NS {
                let pid = self.pid;
                self.looked.give_up(|tid| thread_exists(pid, tid));
            }
        }
        if self.open.is_empty() {
            return due;
        }
        let mut waiting = waiting(self.pid, kernel, &self.memory);
        for tid in self.open.keys().copied().collect::<Vec<_>>() {
            let thread = threads
                .iter()
                .map(|(_, thread)| thread)
                .find(|thread| thread.tid == tid);
            let ended_ns = self.ended(tid, thread, waiting.remove(&tid), now_ns, stacks);
            let Some(stuck) = self.open.get_mut(&tid) else {
                continue;
            };
            let until_ns = ended_ns.unwrap_or(now_ns);
            let long =
                until_ns.saturating_sub(self.attach_ns) >= look.threshold_ns.max(PATIENCE_NS);
            let report = match ended_ns {
                Some(_) => stuck.reported,
                None => long && now_ns >= stuck.next_report_ns,
            };
            if report {
                stuck.reported = true;
                stuck.next_report_ns = now_ns + (now_ns - self.attach_ns);
                due.push(self.report(tid, until_ns, ended_ns.is_some(), names, stacks));
            }
            if ended_ns.is_some() {
                self.open.remove(&tid);
            }
        }
        due
    }

    /// Those that are known to have been open since before the attach, by thread and the attach's
    /// time, and for how long at least.
    pub(crate) fn open_since_attach(&self, now_ns: u64) -> impl Iterator<Item = (PollKey, u64)> {
        let age_ns = now_ns.saturating_sub(self.attach_ns);
        let reported = self.open.iter().filter(|(_, stuck)| stuck.reported);
        reported.map(move |(tid, _)| ((*tid, self.attach_ns), age_ns))
    }

    /// The polls that have been reported and are still open, for the end of the session.
    pub(crate) fn still_open(
        &self,
        now_ns: u64,
        names: &mut ThreadNames,
        stacks: &mut Stacks,
    ) -> Vec<LongPoll> {
        let reported = self.open.iter().filter(|(_, stuck)| stuck.reported);
        reported
            .map(|(tid, _)| self.report(*tid, now_ns, false, names, stacks))
            .collect()
    }

    /// The task's type: that of its key, or the only one that the function polls.
    pub(in crate::collect) fn task_type(&self, poll: &OpenPoll) -> Option<&TaskType> {
        let wanted = poll
            .task
            .map(|task| task.key)
            .or_else(|| poll.keys.first().copied())?;
        Some(&self.served(poll, wanted)?.task)
    }

    fn task_id(&self, poll: &OpenPoll) -> Option<u64> {
        let task = poll.task?;
        let offset = self.served(poll, task.key)?.id_offset;
        let id = self
            .memory
            .word(ProcAddr(task.header.0.checked_add(u64::from(offset))?))?;
        (offset != 0 && id != 0).then_some(id)
    }

    /// The type with a key in the module of a poll.
    fn served(&self, poll: &OpenPoll, key: VirtAddr) -> Option<&ServedType> {
        let images = self.images.iter().filter(|(id, _)| *id == poll.module);
        let mut types = images
            .flat_map(|(_, image)| &image.facts().sites)
            .flat_map(|site| &site.types);
        types.find(|served| served.key == key)
    }

    fn report(
        &self,
        tid: u32,
        until_ns: u64,
        ended: bool,
        names: &mut ThreadNames,
        stacks: &mut Stacks,
    ) -> LongPoll {
        let stuck = &self.open[&tid];
        let duration_ns = until_ns.saturating_sub(self.attach_ns);
        let task = self
            .task_type(&stuck.poll)
            .cloned()
            .unwrap_or_else(|| TaskType::unknown(0));
        // Among several types that share the function, only the header tells which it is.
        let certain = task.certain && (stuck.poll.task.is_some() || stuck.poll.keys.len() == 1);
        let mut poll = LongPoll {
            pid: self.pid,
            tid,
            thread: names.get(tid).to_owned(),
            task_id: self.task_id(&stuck.poll),
            task: TaskType { certain, ..task },
            start_ns: self.attach_ns,
            duration_ns,
            bounds: None,
            ended,
            since_before_attach: true,
            block_in_place: false,
            split: Some(
                stuck
                    .times
                    .split(self.pid, tid, duration_ns, stuck.looks.is_on_cpu()),
            ),
            diagnosis: None,
            stacks: Vec::new(),
        };
        stacks.explain_stuck(&mut poll, stuck.looks.clone(), until_ns);
        advise(&mut poll, stuck.poll.runtime);
        poll
    }
}
