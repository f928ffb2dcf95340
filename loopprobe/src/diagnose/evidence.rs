use super::{Database, Moment, Object, RawSyscall, operation::Operation};
use crate::model::{Split, Stack};

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
}

impl StackEvidence {
    /// Whether the thread was in an embedded database whose files are worth looking for.
    pub fn is_in_sqlite(&self) -> bool {
        Moment::of(self).operation == Some(Operation::Database("SQLite"))
    }
}
