//! Which threads are workers.

use std::collections::HashSet;

use loopprobe_common::thread::Thread;

/// The threads that a session's polls ran on. The kernel side counts those that begin polls of async tasks; a thread on which
/// only another kind of long poll was seen (a root future's, or one that was open before the attach) is a worker too.
#[derive(Debug, Default)]
pub struct Workers {
    /// Known to be counted by the kernel side.
    counted: HashSet<u32>,
    /// Of all long polls.
    reported: HashSet<u32>,
}

impl Workers {
    /// Learns which threads the kernel side has counted.
    pub fn see(&mut self, threads: &[(u32, Thread)]) {
        let polled = threads
            .iter()
            .filter(|(_, thread)| thread.flags & Thread::POLLED != 0);
        self.counted.extend(polled.map(|(_, thread)| thread.tid));
    }

    /// A long poll ran on a thread; `counted` if the kernel side has seen it begin.
    pub fn reported(&mut self, tid: u32, counted: bool) {
        self.reported.insert(tid);
        if counted {
            self.counted.insert(tid);
        }
    }

    /// How many there are, where the kernel side has counted so many.
    pub fn count(&self, counted: u64) -> u64 {
        counted + self.reported.difference(&self.counted).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tid: u32, flags: u32) -> (u32, Thread) {
        let thread = Thread {
            tid,
            flags,
            ..Thread::default()
        };
        (tid, thread)
    }

    #[test]
    fn threads_that_only_ran_closures_or_waited_are_no_workers() {
        let mut workers = Workers::default();
        workers.see(&[
            thread(1, Thread::POLLED | Thread::SHARED),
            thread(2, 0),
            thread(3, Thread::EPOLL),
        ]);
        assert_eq!(workers.count(1), 1);
    }

    #[test]
    fn no_thread_counts_twice() {
        let mut workers = Workers::default();
        workers.reported(1, false);
        workers.reported(2, true);
        assert_eq!(workers.count(1), 2);
        workers.see(&[thread(1, Thread::POLLED)]);
        assert_eq!(workers.count(2), 2);
    }
}
