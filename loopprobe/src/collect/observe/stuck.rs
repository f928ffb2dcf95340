//! Tasks that nothing can wake any more, and types of tasks that only become more.

use std::io;

use super::Observer;
use crate::{
    collect::{
        findings::advice,
        stuck_tasks::{Found, Growing, StuckTasks, StuckWatch, Wanted},
    },
    model::{Event, Evidence, Finding, FindingKind, Notice, Sink},
};

impl Observer {
    /// Begins to look for them, if they are wanted.
    pub(super) fn begin_stuck_watch(&mut self) {
        self.stuck_watch = self.options.stuck.map(|least| {
            StuckWatch::begin(Wanted {
                pid: self.options.pid,
                runtimes: self.options.runtimes,
                least,
                debug_files: self.options.debug_files.clone(),
            })
        });
    }

    /// Says of those that were found.
    pub(super) fn tell_stuck_tasks(&mut self, now: u64, sink: &mut dyn Sink) -> io::Result<()> {
        let found = self.stuck_watch.as_ref().map(StuckWatch::take);
        for found in found.unwrap_or_default() {
            match found {
                Found::Stuck(stuck) => self.say(finding(stuck, self.options.pid, now), sink)?,
                Found::Growing(growing) => {
                    self.say(leak(growing, self.options.pid, now), sink)?;
                }
                Found::Nothing(message) => sink.event(&Event::Notice(Notice {
                    time_ns: now,
                    message: format!("--stuck finds nothing: {message}"),
                    threshold_ns: None,
                    step: None,
                }))?,
            }
        }
        Ok(())
    }
}

fn finding(stuck: StuckTasks, pid: u32, now: u64) -> Finding {
    Finding {
        time_ns: now,
        pid,
        kind: FindingKind::StuckTask,
        advice: advice::STUCK_TASK.to_owned(),
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
