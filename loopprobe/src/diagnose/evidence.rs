//! All that is known of one long poll before its cause: split, stacks, objects, quota, takers.

use super::{Database, Halt, Moment, Object, RawSyscall, operation::Operation};
use crate::model::{Frame, SourceLocation, Split, Stack};

/// One stack of a poll, with what is known about it beside the frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackEvidence {
    /// The stack.
    pub stack: Stack,
    /// The system call that the thread was in, blocked or on the CPU. `None` in its own code.
    pub syscall: Option<RawSyscall>,
    /// What the call was about; resolved while it was open.
    pub object: Option<Object>,
    /// Whether the thread was in the kernel for a page fault.
    pub page_fault: bool,
    /// What stopped the thread from outside, if something did.
    pub halt: Option<Halt>,
    /// Who ended the wait.
    pub waker: Option<Waker>,
    /// Of a sample: whether it found the thread in a small loop that waits, by the processor's
    /// `pause`.
    pub spins: bool,
    /// Whether it may be JavaScript: nothing is to blame, and code of a file that holds V8 is on
    /// the stack.
    pub may_be_javascript: bool,
    /// Of a sample: the loop of awaits that are all ready that it found the thread in.
    pub ready_loop: Option<ReadyLoop>,
}

/// A loop of a poll in which what is awaited is always ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyLoop {
    /// How long a turn takes at most, in nanoseconds.
    pub turn_ns: u64,
    /// Where the async function is defined that is awaited, where the code tells.
    pub of: Option<SourceLocation>,
    /// Which frame of the stack has the loop.
    pub frame: usize,
}

/// The thread that ended a wait inside a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waker {
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Its stack when it did so, innermost first.
    pub frames: Vec<Frame>,
    /// What it did meanwhile, where samples tell.
    pub work: Option<Work>,
    /// For how long it waited meanwhile itself, in an event loop of its own, in nanoseconds.
    pub looped_ns: u64,
}

/// What a thread did on a CPU while a poll waited for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The stack that most samples found, innermost first.
    pub frames: Vec<Frame>,
    /// How long it was on a CPU, by the samples, in nanoseconds.
    pub ns: u64,
}

/// Who had the CPU that a poll's thread waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taker {
    /// The thread's name.
    pub name: String,
    /// The process, as the kernel numbers it; `None` for a thread of the target's own.
    pub process: Option<u32>,
    /// How long it had the CPU at the end of the waits that ended when it gave the CPU up, in
    /// nanoseconds. Who had it before is not known.
    pub had_ns: u64,
}

/// What a control group's CPU controller counted during a poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThrottleDelta {
    /// Periods in which the group was throttled.
    pub periods: u64,
    /// How long it was throttled, in nanoseconds, summed over CPUs.
    pub throttled_ns: u64,
}

/// All that is known about one long poll when its cause is sought.
#[derive(Clone, Debug, Default)]
pub struct PollEvidence {
    /// Where the wall time went, where it is known.
    pub split: Option<Split>,
    /// The stacks. Their `ns` say how long each stood.
    pub stacks: Vec<StackEvidence>,
    /// What the control group's controller counted, where it could be read.
    pub throttle: Option<ThrottleDelta>,
    /// The database files that the process has open, if a wait was a database's.
    pub databases: Vec<Database>,
    /// Who had the CPU meanwhile, longest first.
    pub takers: Vec<Taker>,
    /// Of a frozen process, or one that is short of memory: its control group.
    pub group: Option<String>,
    /// Of a traced process: its tracer, `name (pid)`.
    pub tracer: Option<String>,
}

impl StackEvidence {
    /// Whether the thread was in an embedded database whose files are worth looking for.
    pub fn is_in_sqlite(&self) -> bool {
        Moment::of(self).operation == Some(Operation::Database("SQLite"))
    }
}
