//! Tasks that nothing can wake any more or that take long, locks that nobody takes, and types of
//! tasks that only become more.

use std::{io, time::Duration};

use loopprobe_common::records::BusyRecord;

use super::{Observer, changes::notice};
use crate::{
    collect::{
        findings::advice,
        stuck_tasks::{Found, Futurelock, Growing, StuckTasks, StuckWatch, Wanted, Which},
    },
    model::{Evidence, Finding, FindingKind, Sink},
};

impl Observer {
    /// Begins to look for them, if they are wanted.
    pub(super) fn begin_stuck_watch(&mut self) {
        let (stuck, slow) = (self.options.stuck, self.options.slow_task);
        let wanted = [(Which::Stuck, stuck), (Which::Slow, slow)];
        let watch = |(which, least): (Which, Option<Duration>)| {
            Some(StuckWatch::begin(Wanted {
                pid: self.options.pid,
                runtimes: self.options.runtimes,
                which,
                least: least?,
                cache: self.options.cache,
                debug_files: self.options.debug_files.clone(),
            }))
        };
        self.stuck_watches = wanted.into_iter().filter_map(watch).collect();
    }

    /// Says of a task whose polls have taken long together.
    pub(super) fn tell_busy_polls(
        &mut self,
        record: &BusyRecord,
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        let task = self.plan.types.get(record.task_type as usize);
        let since_ns = self.span.start_ns;
        let finding = Finding {
            time_ns: record.time_ns,
            pid: self.options.pid,
            kind: FindingKind::SlowTask,
            advice: advice::BUSY_POLLS.to_owned(),
            evidence: Evidence {
                since_ns,
                duration_ns: record.time_ns.saturating_sub(since_ns),
                certain: true,
                task: task.map(|task| task.name.clone()),
                task_id: Some(record.task_id),
                busy_ns: Some(record.busy_ns),
                ..Evidence::default()
            },
        };
        self.say(finding, sink)
    }

    /// Says of those that were found.
    pub(super) fn tell_stuck_tasks(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let pid = self.options.pid;
        let found = self.stuck_watches.iter().flat_map(|watch| {
            let found = watch.take().into_iter();
            found.map(|found| (watch.which, found))
        });
        for (which, found) in found.collect::<Vec<_>>() {
            match found {
                Found::Stuck(stuck) => {
                    self.say(finding(FindingKind::StuckTask, stuck, pid, now), sink)?;
                }
                Found::Slow(slow) => {
                    self.say(finding(FindingKind::SlowTask, slow, pid, now), sink)?;
                }
                Found::Growing(growing) => self.say(leak(growing, pid, now), sink)?,
                Found::Futurelock(lock) => self.say(futurelock(lock, pid, now), sink)?,
                Found::Nothing(message) => notice(
                    sink,
                    now,
                    format!("{} finds nothing: {message}", option(which)),
                )?,
            }
        }
        Ok(())
    }
}

fn option(which: Which) -> &'static str {
    match which {
        Which::Stuck => "--stuck",
        Which::Slow => "--slow-task",
    }
}

fn finding(kind: FindingKind, stuck: StuckTasks, pid: u32, now: u64) -> Finding {
    Finding {
        time_ns: now,
        pid,
        kind,
        advice: match kind {
            FindingKind::SlowTask => advice::SLOW_TASK,
            _ => advice::STUCK_TASK,
        }
        .to_owned(),
        evidence: Evidence {
            since_ns: stuck.since_ns,
            duration_ns: now.saturating_sub(stuck.since_ns),
            certain: true,
            task: Some(stuck.task),
            task_id: stuck.ids.first().copied(),
            task_ids: stuck.ids,
            tasks: Some(stuck.count),
            awaits: stuck.awaits,
            ..Evidence::default()
        },
    }
}

fn leak(growing: Growing, pid: u32, now: u64) -> Finding {
    Finding {
        time_ns: now,
        pid,
        kind: FindingKind::Leak,
        advice: advice::LEAK.to_owned(),
        evidence: Evidence {
            since_ns: growing.since_ns,
            duration_ns: now.saturating_sub(growing.since_ns),
            // They may yet end.
            certain: false,
            task: Some(growing.task),
            task_id: growing.ids.first().copied(),
            task_ids: growing.ids,
            tasks: Some(growing.count),
            tasks_before: Some(growing.before),
            awaits: growing.awaits,
            ..Evidence::default()
        },
    }
}

fn futurelock(lock: Futurelock, pid: u32, now: u64) -> Finding {
    Finding {
        time_ns: now,
        pid,
        kind: FindingKind::Futurelock,
        advice: advice::FUTURELOCK.to_owned(),
        evidence: Evidence {
            since_ns: lock.since_ns,
            duration_ns: now.saturating_sub(lock.since_ns),
            // What is left of a future that was dropped may look the same.
            certain: false,
            task: lock.task,
            task_id: lock.id,
            task_ids: lock.ids,
            tasks: Some(lock.waiting),
            awaits: lock.awaits,
            ..Evidence::default()
        },
    }
}
