//! What was found, in a sentence.

use super::count;
use crate::{
    model::{Evidence, Finding, FindingKind},
    report::{Count, Measured, clean},
};

/// What was found, in a sentence.
pub fn finding(finding: &Finding) -> String {
    let evidence = &finding.evidence;
    let duration = Measured(evidence.duration_ns);
    match finding.kind {
        FindingKind::AllWorkersBlocked => {
            let workers = count(evidence.workers.unwrap_or_default(), "worker");
            format!("all workers blocked: {workers} in long polls at once for {duration}")
        }
        FindingKind::Deadlock => format!(
            "possible deadlock: every thread that polls has waited for a lock or another thread for {duration}, and no thread of \
             the process runs"
        ),
        FindingKind::DriverLag => driver_lag(evidence),
        FindingKind::LifoSlot => lifo_slot(evidence),
        FindingKind::BusyTask => format!(
            "busy task: {} is polled {} times a second, {:.0}% of a worker, without end",
            task(evidence),
            Count(evidence.polls_per_second.unwrap_or_default()),
            evidence.share.unwrap_or_default() * 100.0
        ),
        FindingKind::StuckTask => stuck_task(evidence),
        FindingKind::Futurelock => futurelock(evidence),
        FindingKind::SlowTask => slow_task(evidence),
        FindingKind::Leak => format!(
            "possible leak: live tasks {} only became more, from {} to {} in {duration}",
            task(evidence),
            Count(evidence.tasks_before.unwrap_or_default()),
            Count(evidence.tasks.unwrap_or_default()),
        ),
        FindingKind::Shutdown => format!(
            "the end of a runtime has waited for {duration} for {} of its blocking pool",
            count(evidence.pool.unwrap_or_default().busy, "thread")
        ),
        FindingKind::PoolExhausted => pool_exhausted(evidence),
    }
}

fn task(evidence: &Evidence) -> String {
    clean(evidence.task.as_deref().unwrap_or("?")).into_owned()
}

fn driver_lag(evidence: &Evidence) -> String {
    let idle = match evidence.idle_workers {
        Some(1) => ", though 1 worker was idle".to_owned(),
        Some(idle) => format!(", though {} were idle", count(idle, "worker")),
        None => String::new(),
    };
    let kept = match evidence.in_polls_ns {
        Some(ns) if evidence.is_beside_polls() => {
            format!("for {} of it long polls kept", Measured(ns))
        }
        _ => "a poll kept".to_owned(),
    };
    let duration = Measured(evidence.duration_ns);
    format!(
        "driver lag: for {duration} nobody turned the I/O and timer driver{idle}: {kept} the thread that turned it last"
    )
}

fn lifo_slot(evidence: &Evidence) -> String {
    let idle = count(evidence.idle_workers.unwrap_or_default(), "worker");
    let were = match evidence.idle_workers {
        Some(1) => "was",
        _ => "were",
    };
    let by = evidence.polls.first().map_or_else(
        || "a long poll".to_owned(),
        |poll| format!("a long poll of {}", clean(&poll.task)),
    );
    format!(
        "LIFO slot: {} waited for {} behind {by} that had woken it, though {idle} {were} idle",
        task(evidence),
        Measured(evidence.duration_ns)
    )
}

fn stuck_task(evidence: &Evidence) -> String {
    let task = task(evidence);
    let (tasks, them) = match evidence.tasks.unwrap_or(1) {
        1 => (format!("task {task} waits"), "it"),
        tasks => (format!("{} tasks {task} wait", Count(tasks)), "them"),
    };
    let duration = Measured(evidence.duration_ns);
    format!("stuck: {tasks}, for at least {duration}, and nothing can wake {them}")
}

fn futurelock(evidence: &Evidence) -> String {
    const WHAT: &str = "a lock or permit";
    let duration = Measured(evidence.duration_ns);
    let waiting = evidence.tasks.unwrap_or_default();
    let id = evidence.task_id;
    let Some(id) = id else {
        return format!(
            "possible futurelock: {WHAT} was handed to a future of a task that is not known, which has not taken it for at least \
             {duration}; {} for it",
            waits(waiting)
        );
    };
    let task = task(evidence);
    if evidence.task_ids.contains(&id) {
        let others = match waiting.saturating_sub(1) {
            0 => String::new(),
            others => format!("; {} too", waits(others)),
        };
        return format!(
            "possible futurelock: task {id} {task} waits for {WHAT} that was handed to another future of its own, which it has not \
             polled for at least {duration}{others}"
        );
    }
    format!(
        "possible futurelock: {WHAT} was handed to a future of task {id} {task}, which it has not polled for at least {duration}; \
         {} for it",
        waits(waiting)
    )
}

/// So many futures wait.
fn waits(count: u64) -> String {
    match count {
        1 => "1 other waits".to_owned(),
        count => format!("{} others wait", Count(count)),
    }
}

fn slow_task(evidence: &Evidence) -> String {
    let task = task(evidence);
    let duration = Measured(evidence.duration_ns);
    if let Some(busy_ns) = evidence.busy_ns {
        let id = evidence.task_id.unwrap_or_default();
        let busy = Measured(busy_ns);
        return format!(
            "slow: the polls of task {id} {task} have taken {busy} in all, of {duration}"
        );
    }
    match evidence.tasks.unwrap_or(1) {
        1 => format!("slow: task {task} has lived for at least {duration}"),
        tasks => format!(
            "slow: {} tasks {task} live for long, the first of them for at least {duration}",
            Count(tasks)
        ),
    }
}

fn pool_exhausted(evidence: &Evidence) -> String {
    let pool = evidence.pool.unwrap_or_default();
    let waits = match pool.queued.unwrap_or_default() {
        1 => "1 closure waits, for".to_owned(),
        queued => format!("{} closures wait, the oldest for", Count(queued)),
    };
    let cap = count(pool.cap.unwrap_or_default(), "thread");
    let duration = Measured(evidence.duration_ns);
    format!(
        "blocking pool exhausted: all {cap} it may have are busy, and {waits} at least {duration}"
    )
}
