//! Makes up the summary of a recording that was cut off, from its long polls alone.

use std::collections::BTreeMap;

use crate::{
    model::{Event, FindingCount, Group, LongPoll, Summary, TaskSummary, TaskType},
    report::{EachOnce, Ranking, Row},
};

/// Makes up for the missing summary of a recording that was cut off, from its long polls alone.
#[derive(Default)]
pub struct Ending {
    start_ns: u64,
    last_ns: u64,
    complete: bool,
    once: EachOnce,
    tasks: BTreeMap<String, LongPolls>,
    ranking: Ranking,
    findings: Vec<FindingCount>,
}

/// The long polls of a task type.
struct LongPolls {
    task: TaskType,
    count: u64,
    total_ns: u64,
    max_ns: u64,
}

impl Ending {
    /// The reason that such a summary gives.
    pub const REASON: &'static str =
        "the recording was cut off: what was lost, and polls that were not long, are not known";

    /// Takes the next event of the recording.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Session(session) => self.start_ns = session.start_ns,
            Event::LongPoll(poll) => {
                let end = poll.start_ns.saturating_add(poll.duration_ns);
                self.last_ns = self.last_ns.max(end);
                if let Some(poll) = self.once.settle(poll) {
                    self.poll(poll);
                }
            }
            Event::Notice(notice) => self.last_ns = self.last_ns.max(notice.time_ns),
            Event::Interval(interval) => self.last_ns = self.last_ns.max(interval.time_ns),
            Event::Finding(finding) => {
                self.last_ns = self.last_ns.max(finding.time_ns);
                FindingCount::add(&mut self.findings, finding.kind);
            }
            Event::Summary(_) => self.complete = true,
        }
    }

    /// Whether the recording has its own summary.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The summary, unless the recording has its own.
    pub fn summary(mut self) -> Option<Summary> {
        if self.complete {
            return None;
        }
        for poll in self.once.rest() {
            self.poll(&poll);
        }
        let mut tasks: Vec<_> = self.tasks.into_values().collect();
        tasks.sort_by_key(|task| std::cmp::Reverse(task.total_ns));
        Some(Summary {
            reason: Self::REASON.to_owned(),
            duration_ns: self.last_ns.saturating_sub(self.start_ns),
            polls: None,
            blocking_polls: None,
            p50_ns: None,
            p99_ns: None,
            // Without a long poll, the longest is one that is not in the recording.
            max_ns: tasks.iter().map(|task| task.max_ns).max(),
            long_polls: tasks.iter().map(|task| task.count).sum(),
            possible_long_polls: None,
            looks: None,
            long_ns: sum(tasks.iter().map(|task| task.total_ns)),
            worker_ns: None,
            workers: None,
            outside_runtime: 0,
            outside_runtime_ns: 0,
            lost: None,
            cost: None,
            canary: None,
            coverage: None,
            budget: None,
            wake_to_poll: None,
            tasks: tasks.into_iter().map(LongPolls::summary).collect(),
            groups: self.ranking.rows().into_iter().map(group).collect(),
            findings: self.findings,
            no_polls: None,
            threads: Vec::new(),
        })
    }

    fn poll(&mut self, poll: &LongPoll) {
        self.ranking.add(poll);
        let task = self
            .tasks
            .entry(poll.task.name.clone())
            .or_insert_with(|| LongPolls {
                task: poll.task.clone(),
                count: 0,
                total_ns: 0,
                max_ns: 0,
            });
        task.count += 1;
        task.total_ns = task.total_ns.saturating_add(poll.duration_ns);
        task.max_ns = task.max_ns.max(poll.duration_ns);
    }
}

impl LongPolls {
    fn summary(self) -> TaskSummary {
        TaskSummary {
            task: self.task,
            polls: None,
            total_ns: None,
            p50_ns: None,
            p99_ns: None,
            max_ns: self.max_ns,
            long: self.count,
            wake_to_poll: None,
        }
    }
}

fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

fn group(row: &Row) -> Group {
    Group {
        task: row.task.clone(),
        cause: row.cause,
        call: row.call.as_ref().map(|call| call.function.clone()),
        location: row.call.as_ref().and_then(|call| call.location.clone()),
        count: row.count,
        total_ns: row.total_ns,
        waits: None,
        max_ns: row.max_ns,
    }
}
