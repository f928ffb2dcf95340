//! What to do about what is wrong with a loop as a whole.

use crate::model::{Cause, Evidence, FoundPoll, ThreadState};

/// Polls that wait for each other.
pub(crate) const DEADLOCK: &str = "take locks in one order everywhere, and hold none while waiting for another thread; a lock that is held \
     across .await belongs in tokio::sync::Mutex";

/// A task that is polled without end.
pub(crate) const BUSY_TASK: &str = "if it waits for something in a loop of yield_now or try_ calls, await that instead; a waker that is called \
     although nothing is ready does the same; if it computes, move that to spawn_blocking";

/// A task that waits, and of which nobody holds a waker.
pub(crate) const STUCK_TASK: &str = "nothing can wake it: what it awaits kept no waker (pending(), or a future written by hand that returns \
     Pending without one), or dropped it without a call of wake; end such a task, or mend the future";

/// A future that was handed a lock and is not polled.
pub(crate) const FUTURELOCK: &str = "a future that has been polled once keeps its place in the queue of a lock (Mutex, RwLock, Semaphore, bounded channel) \
     and is given the lock though nobody polls it any more: do not await in a branch of select! while another of its futures is kept for \
     later (&mut future), nor in a loop over FuturesUnordered or buffer_unordered; drop that future before, spawn it as a task of its own, \
     or poll both (join!)";

/// Tasks that live for long.
pub(crate) const SLOW_TASK: &str = "a task that serves the program as long as it runs may; one that belongs to a request should end: see what it awaits, and \
     give that a limit (tokio::time::timeout)";

/// A task whose polls take long together.
pub(crate) const BUSY_POLLS: &str = "a task that does the program's main work may; else see what it computes: each of its polls may be short, but their      worker does nothing else meanwhile; move the work to spawn_blocking or to threads of its own, or do less of it";

/// The live tasks of a type only become more.
pub(crate) const LEAK: &str = "see what the oldest of them await: give it an end (tokio::time::timeout, a CancellationToken, a channel whose other side \
     is dropped); keep tasks in a JoinSet, which ends them with what they belong to; if they end but come faster, bound them with a \
     tokio::sync::Semaphore";

/// All workers of a runtime in these polls at once.
pub(crate) fn all_blocked(polls: &[FoundPoll]) -> String {
    let what = "while this lasts nothing of the runtime runs, neither timers nor I/O";
    // What waits for another thread may wait for one of the others.
    let waits = |poll: &&FoundPoll| matches!(poll.cause, Some(Cause::Lock | Cause::ThreadWait));
    let first = polls.iter().find(|poll| !waits(poll));
    match first.or(polls.first()).and_then(of_poll) {
        Some(advice) => format!("{what}: {advice}"),
        None => format!("{what}: see what these polls do"),
    }
}

/// Nobody turned the driver meanwhile; the evidence has the longest poll of the thread that turned
/// it last.
pub(crate) fn driver_lag(evidence: &Evidence) -> String {
    let why = match evidence.idle_workers {
        Some(_) => {
            "idle workers do not take the driver over while the one that turned it last is busy"
        }
        None => "timers and I/O of this runtime are late by that much",
    };
    if evidence.is_beside_polls() {
        return format!(
            "{why}: most of it was in no long poll, but in shorter ones in a row, in the runtime itself, as when very many timers fire at \
             once, or in waiting for a CPU"
        );
    }
    match evidence.polls.first().and_then(of_poll) {
        Some(advice) => format!("{why}: {advice}"),
        None => format!("{why}: see what this poll does"),
    }
}

/// A task was kept by the poll that the evidence has.
pub(crate) fn lifo_slot(evidence: &Evidence) -> String {
    let why = "the task that a poll wakes last is its own worker's to poll next, and no other worker may take it";
    match evidence.polls.first().and_then(of_poll) {
        Some(advice) => format!("{why}: {advice}"),
        None => format!("{why}: wake others at the end of a poll, or await before it goes on"),
    }
}

/// What to do about one poll, after the name of its call.
fn of_poll(poll: &FoundPoll) -> Option<String> {
    let advice = poll.advice.as_ref()?;
    Some(match &poll.call {
        Some(call) => format!("{call}: {advice}"),
        None => advice.clone(),
    })
}

/// In which call all of these closures are, if it is one.
fn common(closures: &[ThreadState]) -> String {
    let first = closures.first().and_then(|thread| thread.call.as_ref());
    let is_one = first.is_some() && closures.iter().all(|thread| thread.call.as_ref() == first);
    match first.filter(|_| is_one) {
        Some(call) => format!("the closures are in {call}: "),
        None => String::new(),
    }
}

/// The end of a runtime that waits for these closures. Those on a CPU are not among them.
pub(crate) fn shutdown(closures: &[ThreadState]) -> String {
    let what = common(closures);
    format!(
        "{what}a closure that has begun cannot be cancelled: tell it to end (a flag, a channel that is closed) before the runtime is \
         dropped, or end the runtime with shutdown_timeout or shutdown_background"
    )
}

/// A blocking pool whose threads run these closures, while others wait for a thread. Those on a CPU
/// are not among them.
pub(crate) fn pool_exhausted(closures: &[ThreadState]) -> String {
    let what = common(closures);
    format!(
        "{what}a closure must not wait for another one that may be queued behind it; bound how many are spawned with a \
         tokio::sync::Semaphore, give what runs for long a thread of its own, or raise Builder::max_blocking_threads"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(cause: Cause, advice: Option<&str>) -> FoundPoll {
        FoundPoll {
            tid: 1,
            thread: "worker".to_owned(),
            task: "task".to_owned(),
            task_id: None,
            start_ns: 0,
            duration_ns: 20,
            ended: true,
            cause: Some(cause),
            call: None,
            advice: advice.map(str::to_owned),
        }
    }

    fn lag(duration_ns: u64, in_polls_ns: u64, poll: FoundPoll) -> String {
        driver_lag(&Evidence {
            duration_ns,
            in_polls_ns: Some(in_polls_ns),
            polls: vec![poll],
            ..Evidence::default()
        })
    }

    #[test]
    fn a_loop_is_told_what_its_poll_is_told() {
        let preempted = poll(Cause::Preempted, Some("others had the CPU"));
        assert!(lag(20, 20, preempted.clone()).ends_with(": others had the CPU"));
        assert!(all_blocked(&[preempted]).ends_with(": others had the CPU"));
        assert!(!lag(20, 20, poll(Cause::Unknown, None)).contains("spawn_blocking"));
    }

    #[test]
    fn a_poll_is_not_blamed_for_what_lies_beside_it() {
        let blocked = poll(Cause::Sleep, Some("do not sleep"));
        assert!(lag(100, 60, blocked.clone()).contains("do not sleep"));
        let text = lag(100, 20, blocked);
        assert!(
            text.contains("in no long poll") && !text.contains("do not sleep"),
            "{text}"
        );
    }

    #[test]
    fn what_the_others_wait_for_comes_first() {
        let polls = [
            poll(Cause::Lock, Some("hold it for less time")),
            poll(Cause::Pipe, Some("drain it")),
        ];
        assert!(all_blocked(&polls).ends_with(": drain it"));
    }
}
