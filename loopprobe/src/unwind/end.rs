//! Where a walk is to end, and how it did.

use framehop::Error;

/// Where a walk ends.
#[derive(Clone, Copy)]
pub(super) enum Goal {
    /// At the frame whose return address was at this stack address.
    Entry(u64),
    /// At the thread's first function.
    Thread,
}

/// How a walk ended.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// At its goal.
    Arrived,
    /// A word on the stack could not be read.
    Unread(u64),
    /// Beyond the goal.
    Beyond,
    /// In a circle, or at an end that is not the goal.
    Astray,
    /// In the kernel's code for probes. Where that returns to is not on the stack.
    AtProbe,
}

impl End {
    /// At the end of a thread's stack.
    pub(super) fn of_thread(goal: Goal) -> Self {
        match goal {
            Goal::Thread => Self::Arrived,
            Goal::Entry(_) => Self::Astray,
        }
    }

    /// Whether a frame reaches beyond the goal. What lies there is not copied.
    pub(super) fn is_beyond(self, goal: Goal) -> bool {
        match (self, goal) {
            (Self::Beyond, _) => true,
            (Self::Unread(address), Goal::Entry(entry)) => address > entry && address != u64::MAX,
            _ => false,
        }
    }

    /// A step that could not be made.
    pub(super) fn failed(error: &Error) -> Self {
        match error {
            Error::CouldNotReadStack(address) => Self::Unread(*address),
            Error::FramepointerUnwindingMovedBackwards
            | Error::DidNotAdvance
            | Error::IntegerOverflow
            | Error::ReturnAddressIsNull => Self::Astray,
        }
    }
}
