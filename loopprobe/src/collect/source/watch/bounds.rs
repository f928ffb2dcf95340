//! What sightings of a poll prove of its duration.
//!
//! The same task may have been polled several times between two sightings, with nothing to be seen
//! in between. What proves one poll is a wait: the thread went off its CPU inside a poll, and its
//! CPU time was the same when it came back, so that nothing of it has run meanwhile.

use loopprobe_common::{
    thread::Thread,
    watch::{Wait, WatchRecord, is_root},
};

use crate::model::Split;

/// A time for which one poll was open for certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proven {
    /// When it began.
    pub start_ns: u64,
    /// How long it was.
    pub ns: u64,
    /// Where it went.
    pub split: Split,
}

/// The longest time for which a poll that is over was open for certain. `is_task`: the number is
/// known to be an async task's.
pub(crate) fn proven(record: &WatchRecord, is_task: bool) -> Proven {
    let is_task = is_task && !is_root(record.task_id, record.idle_id);
    of_wait(&record.longest, is_task)
}

/// The same of the poll that a thread is in, as it was at `now_ns` or later.
pub(crate) fn proven_so_far(thread: &Thread, is_task: bool, now_ns: u64) -> Proven {
    let (poll, watch) = (&thread.polls[0], &thread.watch);
    let is_task = is_task && !is_root(poll.task_id, watch.idle_id);
    let longest = of_wait(&watch.longest, is_task);
    // A state that was read while it changed may have the times of two polls.
    if thread.off == Thread::OFF_NOT || thread.off_ns < poll.start_ns {
        return longest;
    }
    let woken_ns = match (thread.off, thread.woken_ns) {
        (Thread::OFF_BLOCKED, 0) => now_ns,
        (Thread::OFF_BLOCKED, woken_ns) => woken_ns,
        _ => thread.off_ns,
    };
    let current = Wait {
        at_ns: thread.off_ns,
        ns: now_ns.saturating_sub(thread.off_ns),
        runnable_ns: now_ns.saturating_sub(woken_ns),
    };
    let current = of_wait(&current, is_task);
    if current.ns >= longest.ns {
        current
    } else {
        longest
    }
}

/// How long a poll was at most, or what was taken for one, from the time in which it lies; `None`
/// if that is not known.
pub(crate) fn hi_ns(flags: u64, lo_ns: u64, hi_ns: u64) -> Option<u64> {
    let unknown = WatchRecord::OLDER | WatchRecord::GOES_ON;
    (flags & unknown == 0).then(|| hi_ns.saturating_sub(lo_ns))
}

/// A thread has a budget for a moment before and after each poll of a task, and may be preempted
/// there. What it then has for a task's number is its worker's, or none. So only a wait of its own
/// accord proves anything if the number is not known to be a task's.
fn of_wait(wait: &Wait, is_task: bool) -> Proven {
    let runnable_ns = wait.runnable_ns.min(wait.ns);
    let blocked_ns = wait.ns - runnable_ns;
    let (ns, runnable_ns) = if is_task {
        (wait.ns, runnable_ns)
    } else {
        (blocked_ns, 0)
    };
    Proven {
        start_ns: wait.at_ns,
        ns,
        split: Split {
            on_cpu_ns: 0,
            runnable_ns,
            blocked_ns,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Wait = Wait {
        at_ns: 100,
        ns: 50,
        runnable_ns: 20,
    };

    fn record(task_id: u64, idle_id: u64) -> WatchRecord {
        WatchRecord {
            task_id,
            idle_id,
            lo_ns: 10,
            first_ns: 20,
            last_ns: 900,
            hi_ns: 1_000,
            longest: WAIT,
            ..WatchRecord::default()
        }
    }

    #[test]
    fn only_one_wait_is_proven() {
        let task = proven(&record(7, 3), true);
        assert_eq!((task.start_ns, task.ns), (100, 50));
        assert_eq!((task.split.blocked_ns, task.split.runnable_ns), (30, 20));
    }

    #[test]
    fn waiting_for_a_cpu_proves_nothing_of_a_root_future() {
        for root in [record(0, 0), record(3, 3)] {
            let root = proven(&root, true);
            assert_eq!((root.start_ns, root.ns), (100, 30));
        }
    }

    #[test]
    fn nor_of_a_number_that_may_be_a_workers() {
        let unknown = proven(&record(7, 0), false);
        assert_eq!((unknown.start_ns, unknown.ns), (100, 30));
    }

    #[test]
    fn a_state_of_two_polls_proves_no_wait() {
        let mut thread = Thread {
            depth: 1,
            off: Thread::OFF_BLOCKED,
            off_ns: 500,
            ..Thread::default()
        };
        thread.polls[0].task_id = 7;
        thread.polls[0].start_ns = 400;
        assert_eq!(proven_so_far(&thread, true, 900).ns, 400);
        thread.polls[0].start_ns = 600;
        assert_eq!(proven_so_far(&thread, true, 900).ns, 0);
    }

    #[test]
    fn a_bound_that_is_not_known_is_none() {
        assert_eq!(hi_ns(0, 10, 30), Some(20));
        assert_eq!(hi_ns(WatchRecord::CERTAIN, 10, 30), Some(20));
        assert_eq!(hi_ns(WatchRecord::OLDER, 10, 30), None);
        assert_eq!(hi_ns(WatchRecord::GOES_ON, 10, 30), None);
    }
}
