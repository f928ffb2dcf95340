//! What the kernel side keeps of each thread that polls tasks; the values of the maps `HOMES` and
//! `THREADS`.

use crate::{health::Longest, light::Question, watch::Watch};

/// How deep polls may nest on one thread. Seen in practice: a worker inside a blocking closure, and
/// a `block_on` of a `LocalSet` inside that.
pub const MAX_DEPTH: usize = 8;

/// How many threads can be tracked. Only threads that poll tasks count. The kernel sets aside about
/// 1 KiB for each.
pub const MAX_THREADS: u32 = 4096;

/// How many places the array `HOMES` has: a thread's is its id modulo this. Threads of a process
/// have ids that follow each other closely, so few meet in one place; those that do are in the hash
/// map `THREADS`. Found by measuring: a look-up in an array takes 7 ns, in a hash map 38 ns, and a
/// poll needs two.
pub const HOMES: u32 = 2_048;

/// How many words of a task's future are kept when its type is only a box: the box itself is the
/// first two or, behind the tag of the stage, the second two.
pub const STAGE_WORDS: usize = 4;

/// One open poll.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenPoll {
    /// When it began.
    pub start_ns: u64,
    /// The stack pointer at the first instruction of the poll; the return address lies there.
    pub stack_pointer: u64,
    /// The task's header.
    pub header: u64,
    /// The task's id, 0 if unknown or not read yet.
    pub task_id: u64,
    /// The task's scheduler (`Arc` pointer), 0 if unknown or not read yet.
    pub scheduler: u64,
    /// The thread's `blocked_ns` when the poll began.
    pub blocked_ns: u64,
    /// The thread's `runnable_ns` when the poll began.
    pub runnable_ns: u64,
    /// Index of the task type, or [`crate::config::UNKNOWN_TYPE`].
    pub task_type: u32,
    /// Bits of [`OpenPoll::BLOCK_IN_PLACE`] and the like.
    pub flags: u32,
    /// The address of the probe that saw it.
    pub probe: u64,
    /// Index of its site.
    pub site: u32,
    /// How many other polls were open on the thread when it began: its time is theirs too.
    pub outer: u32,
    /// The beginning of the task's future, for types with `TaskLayout::FLAG_BOXED`, zeros if not
    /// read yet; else anything.
    pub stage: [u64; STAGE_WORDS],
}

impl OpenPoll {
    /// The poll handed its worker's core to another thread (`block_in_place`).
    pub const BLOCK_IN_PLACE: u32 = 1;
    /// The task's header has not been read: the type is that of the site's only vtable. It is read
    /// when the thread leaves its CPU inside the poll, wakes another or is sampled, which no long
    /// poll escapes.
    pub const UNREAD: u32 = 2;
    /// Its last instruction has been executed, but its return probe has not run: it ended at
    /// `Thread::returned_ns`.
    pub const RETURNED: u32 = 4;
    /// Of a root's record: the thread has left `block_on` before the end, for it has just called it
    /// again.
    pub const LEFT: u32 = 8;
    /// Whether it was still open when its thread stopped last could not be told, only presumed.
    /// With entry-only timing.
    pub const PRESUMED: u32 = 1 << 8;
}

/// One thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// The thread's id in loopprobe's own pid namespace.
    pub tid: u32,
    /// How many polls are open, including those too deep to be kept.
    pub depth: u32,
    /// Bits of [`Thread::WORKER`] and the like.
    pub flags: u32,
    /// Why the thread is off its CPU: one of `OFF_*`.
    pub off: u32,
    /// When it went off its CPU.
    pub off_ns: u64,
    /// How long it had been on a CPU in all when it went off.
    pub cpu_ns: u64,
    /// When it was made ready to run since; 0 if not yet.
    pub woken_ns: u64,
    /// How long it has waited in the kernel in all.
    pub blocked_ns: u64,
    /// How long it has been ready without a CPU in all.
    pub runnable_ns: u64,
    /// Since when the thread has been neither in a poll nor parked; 0 if unknown. While its
    /// outermost poll is in question: the same if that poll has ended.
    pub gap_ns: u64,
    /// `blocked_ns` at that time.
    pub gap_blocked_ns: u64,
    /// `runnable_ns` at that time.
    pub gap_runnable_ns: u64,
    /// Blocked time in the innermost poll of which no stack has been sent: of waits shorter than
    /// `min_block_ns`.
    pub unsent_ns: u64,
    /// Not 0 while a program at a probe looks for polls to end, with entry-only timing. Kernels
    /// that preempt programs run that of the switch meanwhile, which would end them a second time.
    pub is_settling: u64,
    /// What the scratch registers held at the probe of the innermost poll when its program ran, as
    /// one number; only with entry-only timing.
    pub entered_with: u64,
    /// When the innermost poll returned, if it has [`OpenPoll::RETURNED`].
    pub returned_ns: u64,
    /// `blocked_ns` at that time.
    pub returned_blocked_ns: u64,
    /// `runnable_ns` at that time.
    pub returned_runnable_ns: u64,
    /// When the poll, or the root future's turn, began of which a stack was sent last.
    pub sent_of_ns: u64,
    /// What is not known yet of one of the open polls; only with entry-only timing.
    pub question: Question,
    /// The last poll of another thread that woke this one, until a blocking closure begins.
    pub waker: Waker,
    /// The poll that woke the thread for the blocking closure that it runs.
    pub launcher: Waker,
    /// That closure's type.
    pub closure_type: u32,
    /// The thread's id as the kernel numbers it; 0 where no thread is.
    pub kernel_tid: u32,
    /// How long polls that began outside any other have taken in all; those that are over.
    pub busy_ns: u64,
    /// How many there were.
    pub turns: u64,
    /// How many of them were the watched task's.
    pub watched_turns: u64,
    /// How long those took.
    pub watched_ns: u64,
    /// Since when the thread has not parked; 0 while it is parked.
    pub awake_ns: u64,
    /// The longest such time.
    pub longest: [Longest; 2],
    /// The scheduler whose worker it is; 0 if unknown.
    pub scheduler: u64,
    /// The driver's descriptor with which it has called `epoll_wait` last, and 1; 0 for none.
    pub driver: u32,
    /// Which target's it is: see [`crate::target`].
    pub target: u32,
    /// Open polls, outermost first.
    pub polls: [OpenPoll; MAX_DEPTH],
    /// With entry-only timing: when a place that has an answer was asked about again last.
    pub asked_ns: u64,
    /// When its last wait in a driver's `epoll_wait` began, and when it was made ready to run
    /// again.
    /// Behind all that a probe touches.
    pub driver_from_ns: u64,
    /// See there.
    pub driver_to_ns: u64,
    /// The stack pointer in its last wait below [`Thread::PARKS`]. A signal interrupts such a wait,
    /// and it goes on.
    pub park_sp: u64,
    /// What is seen of its poll where it is watched instead of probed. Behind all that a probe
    /// touches.
    pub watch: Watch,
}

impl Thread {
    /// It has run a blocking closure and, inside it, an async poll: it is (or was) a worker.
    pub const WORKER: u32 = 1;
    /// It polls tasks of a scheduler that belongs to one thread, so its gaps are the root future's.
    pub const LOCAL: u32 = 2;
    /// It waits for events in `epoll_wait` on behalf of the runtime.
    pub const EPOLL: u32 = 4;
    /// It is parked: off its CPU, waiting for events, with no poll open.
    pub const PARKED: u32 = 8;
    /// It polls tasks of a scheduler that many threads share.
    pub const SHARED: u32 = 16;
    /// It parks as a thread in `block_on` of a multi_thread runtime does.
    pub const BLOCK_ON: u32 = 32;
    /// Bits of a thread that has polled tasks.
    pub const POLLED: u32 = Self::LOCAL | Self::SHARED;
    /// Its stack is kept while it is off its CPU.
    pub const KEPT: u32 = 64;
    /// It went off its CPU before the first instruction of its innermost poll: that begins when the
    /// thread is back.
    pub const NOT_BEGUN: u32 = 128;

    /// It is off its CPU in a driver's `epoll_wait`.
    pub const IN_DRIVER: u32 = 1 << 13;

    /// It is not the target's but loopprobe's own: see [`crate::target::canary_key`].
    pub const CANARY: u32 = 1 << 14;
    /// It polls tasks, and only threads that do not are watched.
    pub const ASIDE: u32 = 1 << 15;
    /// A probe sees it park where it does so in a futex, which other waits do too.
    pub const PARKS: u32 = 1 << 16;
    /// It has passed that probe and not waited since.
    pub const PARKING: u32 = 1 << 17;

    /// Whether it has polled a task since a session began. The outermost poll stays in its place
    /// when it has ended.
    #[inline(always)]
    pub fn has_polled_since(&self, start_ns: u64) -> bool {
        self.flags & Self::POLLED != 0 && self.polls[0].start_ns >= start_ns
    }

    /// It has hit no probe since it was back on a CPU.
    pub const FRESH: u32 = 1 << 12;

    /// The innermost open poll.
    #[inline(always)]
    pub fn innermost(&self) -> Option<&OpenPoll> {
        self.polls.get((self.depth as usize).wrapping_sub(1))
    }

    /// The innermost open poll, to change.
    #[inline(always)]
    pub fn innermost_mut(&mut self) -> Option<&mut OpenPoll> {
        self.polls.get_mut((self.depth as usize).wrapping_sub(1))
    }

    /// Whether it is not known yet if the innermost poll is still open.
    #[inline(always)]
    pub fn is_in_question(&self) -> bool {
        self.question.place.is_some() && self.question.depth == self.depth
    }

    /// On its CPU.
    pub const OFF_NOT: u32 = 0;
    /// Waiting for something.
    pub const OFF_BLOCKED: u32 = 1;
    /// Ready to run.
    pub const OFF_RUNNABLE: u32 = 2;
}

/// Whose a place in `HOMES` is; the values of the map `OWNERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The thread, as the kernel numbers it.
    pub tid: u32,
    /// Which target's it is.
    pub target: u32,
}

/// An open poll of another thread that woke this one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waker {
    /// The waking thread, as the kernel numbers it; 0 for none.
    pub tid: u32,
    /// Keeps the layout free of padding.
    pub reserved: u32,
    /// When its poll began.
    pub start_ns: u64,
    /// The scheduler of its task.
    pub scheduler: u64,
}

crate::pod!(OpenPoll, Thread, Owner, Waker);
