//! Counters of what the kernel side could not do. The map `COUNTERS` has all of
//! these for each target.

/// What was lost or is worth knowing, counted a CPU.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A record found the ring buffer full.
    EventLost,
    /// A poll was nested deeper than [`crate::thread::MAX_DEPTH`].
    TooDeep,
    /// A poll ended whose beginning is not known.
    UnmatchedEnd,
    /// A poll began and its end never came.
    UnmatchedStart,
    /// A thread found the table of threads full.
    ThreadLost,
    /// A task's vtable is not among those that the scan found.
    UnknownType,
    /// User memory could not be read.
    Unreadable,
    /// A thread ended inside a poll.
    ThreadExit,
    /// A stack found no slot or the ring buffer full.
    StackLost,
    /// A thread went off or on its CPU unseen.
    SwitchLost,
    /// With entry-only timing: whether a poll had ended could not be told; it was taken to have.
    Undecided,
    /// A thread that has polled tasks in this session ended. No loss.
    Worker,
    /// A task was scheduled, and the table of those was full.
    WakeLost,
    /// A poll began, and when its task was scheduled is not known. No loss: it may have been before
    /// the session began.
    WakeUnseen,
}

impl Counter {
    /// How many there are.
    pub const COUNT: u32 = Self::WakeUnseen as u32 + 1;
}
