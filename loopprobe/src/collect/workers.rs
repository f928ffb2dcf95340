//! Which threads are workers.

use std::collections::HashSet;

use loopprobe_common::thread::Thread;

/// The threads that a session's polls ran on: those that polled async tasks, and those on which
/// only another kind of long poll was seen (a root future's, or one that was open before the
/// attach).
#[derive(Debug, Default)]
pub(super) struct Workers {
    /// Seen to have polled async tasks: alive, or counted by the kernel side at their end.
    polled: HashSet<u32>,
    /// Of all long polls.
    reported: HashSet<u32>,
}

impl Workers {
    /// Learns which of these threads have polled tasks since the session began.
    pub(super) fn see(&mut self, threads: &[(u32, Thread)], start_ns: u64) {
        let polled = threads
            .iter()
            .filter(|(_, thread)| thread.has_polled_since(start_ns));
        self.polled.extend(polled.map(|(_, thread)| thread.tid));
    }

    /// A long poll ran on a thread; `of_task` if the kernel side has seen it begin.
    pub(super) fn reported(&mut self, tid: u32, of_task: bool) {
        self.reported.insert(tid);
        if of_task {
            self.polled.insert(tid);
        }
    }

    /// How many were seen, some of which the kernel side may have been made to forget.
    pub(super) fn seen(&self) -> u64 {
        self.polled.union(&self.reported).count() as u64
    }

    /// How many there are at the end: `threads` are left, and the kernel side has counted `ended`
    /// others that had polled tasks.
    pub(super) fn count(&self, threads: &[(u32, Thread)], ended: u64, start_ns: u64) -> u64 {
        let left = threads
            .iter()
            .filter(|(_, thread)| thread.has_polled_since(start_ns));
        ended + (left.count() + self.reported.difference(&self.polled).count()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000;

    fn thread(tid: u32, flags: u32, last_poll_ns: u64) -> (u32, Thread) {
        let mut thread = Thread {
            tid,
            flags,
            ..Thread::default()
        };
        thread.polls[0].start_ns = last_poll_ns;
        (tid, thread)
    }

    #[test]
    fn threads_that_only_ran_closures_waited_or_polled_before_are_no_workers() {
        let threads = [
            thread(1, Thread::WORKER | Thread::SHARED, START),
            thread(2, 0, 0),
            thread(3, Thread::EPOLL, 0),
            thread(4, Thread::LOCAL, START - 1),
        ];
        let mut workers = Workers::default();
        workers.see(&threads, START);
        assert_eq!(workers.count(&threads, 0, START), 1);
    }

    #[test]
    fn no_thread_counts_twice() {
        let mut workers = Workers::default();
        workers.reported(1, false);
        workers.reported(2, true);
        // The second one has ended, the first one polls tasks by now.
        assert_eq!(workers.count(&[], 1, START), 2);
        let threads = [thread(1, Thread::LOCAL, START)];
        workers.see(&threads, START);
        assert_eq!(workers.count(&threads, 1, START), 2);
    }
}
