//! What a session knows at one look.

use loopprobe_common::thread::{OpenPoll, Thread};

use super::{look::Look, threads::ThreadNames};
use crate::model::{
    CurrentPoll, Distribution, Interval, Live, Summary, TaskKind, TaskType, Worker,
};

/// Puts a snapshot together from the kernel side's threads and a summary of the session so far.
pub(super) fn snapshot(
    look: Look<'_>,
    types: &[TaskType],
    names: &mut ThreadNames,
    (summary, durations): (Summary, Distribution),
    interval: Interval,
) -> Live {
    let mut workers: Vec<Worker> = look
        .threads
        .iter()
        .filter_map(|(_, thread)| worker(thread, look.now_ns, types, names))
        .collect();
    workers.sort_by_key(|worker| worker.tid);
    Live {
        time_ns: look.now_ns,
        threshold_ns: look.threshold_ns,
        workers,
        interval,
        tasks: summary.tasks,
        polls: summary.polls,
        possible: summary.possible_long_polls,
        durations,
        cost: summary.cost,
        canary: summary.canary,
        coverage: summary.coverage.as_deref().copied(),
        budget: summary.budget.map(|budget| *budget),
        lost: summary.lost.unwrap_or_default(),
        is_last: false,
    }
}

/// `None` for a thread that only runs blocking closures.
fn worker(
    thread: &Thread,
    now_ns: u64,
    types: &[TaskType],
    names: &mut ThreadNames,
) -> Option<Worker> {
    const POLLS_TASKS: u32 = Thread::WORKER | Thread::LOCAL | Thread::SHARED;
    let poll = innermost_async(thread, types);
    if poll.is_none() && thread.flags & POLLS_TASKS == 0 {
        return None;
    }
    let off_now = match thread.off {
        Thread::OFF_NOT => 0,
        _ => now_ns.saturating_sub(thread.off_ns),
    };
    Some(Worker {
        tid: thread.tid,
        thread: names.get(thread.tid).to_owned(),
        off_ns: thread.blocked_ns + thread.runnable_ns + off_now,
        blocked: thread.off == Thread::OFF_BLOCKED,
        poll,
    })
}

/// A worker of a multi_thread runtime itself runs inside a blocking closure, which is not what it
/// polls.
fn innermost_async(thread: &Thread, types: &[TaskType]) -> Option<CurrentPoll> {
    let depth = (thread.depth as usize).min(thread.polls.len());
    let task = |poll: &OpenPoll| types.get(poll.task_type as usize);
    let is_async = |poll: &&OpenPoll| task(poll).is_none_or(|task| task.kind == TaskKind::Async);
    let poll = thread.polls[..depth].iter().rev().find(is_async)?;
    Some(CurrentPoll {
        task: task(poll).map_or_else(|| "?".to_owned(), |task| task.name.clone()),
        task_id: (poll.task_id != 0).then_some(poll.task_id),
        start_ns: Some(poll.start_ns),
    })
}
