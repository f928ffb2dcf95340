//! Entry-only timing (`--light`): without return probes, a poll ends where its thread begins the
//! next one or parks.
//!
//! A thread may also wait inside a poll, call `epoll_wait` inside a poll (a runtime in a task), or
//! poll a task inside a poll. From where on its stack it does so the kernel side cannot tell
//! whether the poll is still open; an unwinder can. So the kernel side asks once for each
//! [`Place`], with a copy of the stack, and user space answers in the map `ANSWERS`.

/// From where a thread waits, calls `epoll_wait` or polls another task, as seen from an open poll.
/// The same code gives the same place on every thread and every time; the key of the map `ANSWERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The instruction behind the system call, the caller of `epoll_wait`, or the nested poll's
    /// probe.
    pub ip: u64,
    /// How far the stack pointer is below the poll's entry, in bytes; [`Place::DEEP`] if it is
    /// [`Place::DEEP_BYTES`] or more on a worker in its only poll.
    pub distance: u64,
    /// One of `WHAT_*`, or the system call's number; for `epoll_wait`, the descriptor too, for
    /// another runtime has another one.
    pub what: u64,
    /// Which target's threads: others have other code there. See [`crate::target`].
    pub target: u64,
}

impl Place {
    /// A poll of another task.
    pub const WHAT_POLL: u64 = 1 << 62;
    /// A call of `epoll_wait`, which may not wait; the descriptor is in the lower half.
    pub const WHAT_EPOLL: u64 = 1 << 61;

    /// A distance of [`Place::DEEP_BYTES`] or more. Code that calls itself would have as many
    /// places as it can be deep.
    pub const DEEP: u64 = u64::MAX;
    /// Between two polls a worker runs nothing but the scheduler, which needs a kilobyte or two to
    /// park.
    pub const DEEP_BYTES: u64 = 16 * 1024;

    /// Whether there is one: no code lies at address 0.
    #[inline(always)]
    pub const fn is_some(&self) -> bool {
        self.ip != 0
    }
}

/// A place that has been asked about, and no answer was there yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Where; no place if there is no question.
    pub place: Place,
    /// The thread's depth then: which of its polls it is about.
    pub depth: u32,
    /// What the kernel side concludes at the thread's current stop.
    pub verdict: u32,
    /// When. If the poll has ended, it did so here.
    pub time_ns: u64,
    /// The thread's `blocked_ns` at that time.
    pub blocked_ns: u64,
    /// The thread's `runnable_ns` at that time.
    pub runnable_ns: u64,
}

/// What is known of a place; an element of the map `ANSWERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// One of [`answer`].
    pub answer: u32,
    /// How often it has been asked about again since.
    pub asked_again: u32,
}

/// Answers.
pub mod answer {
    /// There is none yet.
    pub const NONE: u32 = 0;
    /// The poll is still open.
    pub const OPEN: u32 = 1;
    /// The poll has ended.
    pub const ENDED: u32 = 2;
    /// The stack cannot tell, or the same place has been both, and it may be where the thread
    /// parks. Unless it is seen in the same poll later on, the poll is taken to have ended at the
    /// first such place, and counted.
    pub const UNKNOWN: u32 = 3;
    /// The stack cannot tell, but it is no place where a worker parks. The poll is taken to be
    /// open, and counted.
    pub const PRESUMED: u32 = 4;
}

/// How many places can be answered, of a load for one target. A program has some dozens.
pub const MAX_PLACES: u32 = 4096;

crate::pod!(Place, Question, Answered);
