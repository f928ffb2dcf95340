//! A part of a poll's wall time as the rules see it: frames, system call, object, halt.

use super::{
    Halt, Object, RawSyscall, StackEvidence, futex,
    operation::{Operation, SPINNING_LOCK, is_of_parking_lot, operation},
    syscall::Waits,
};
use crate::model::{Frame, StackKind};

/// A part of a poll's wall time, as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// What the thread was doing.
    pub kind: StackKind,
    /// Its stack, innermost first.
    pub frames: &'a [Frame],
    /// The system call that it was in, blocked or on the CPU.
    pub syscall: Option<RawSyscall>,
    /// What the call was about.
    pub object: Option<&'a Object>,
    /// Whether it was in the kernel for a page fault.
    pub page_fault: bool,
    /// Whether its control group had used up its CPU quota.
    pub throttled: bool,
    /// What stopped it from outside, if something did.
    pub halt: Option<Halt>,
    /// Whether it was in a small loop that waits.
    pub spins: bool,
    /// Whether other threads of the process had the CPU that it waited for.
    pub preempted_by_itself: bool,
    /// Whether it may have been in JavaScript: nothing says whose code it was, and the file holds
    /// V8.
    pub may_be_javascript: bool,
    /// Whether it was in a loop of awaits that are all ready.
    pub never_yields: bool,
    /// Whether it copied memory: of a whole poll, for most of the time that has this cause.
    pub copies: bool,
    /// Whether the thread that ended the wait is known.
    pub woken: bool,
    /// Whose operation it was in, as the frames tell.
    pub(crate) operation: Option<Operation>,
}

impl<'a> Moment<'a> {
    /// The time for which a stack stands.
    pub fn of(found: &'a StackEvidence) -> Self {
        Self {
            kind: found.stack.kind,
            frames: &found.stack.frames,
            syscall: found.syscall,
            object: found.object.as_ref(),
            page_fault: found.page_fault,
            throttled: false,
            halt: found.halt,
            spins: found.spins,
            never_yields: found.ready_loop.is_some(),
            copies: copies(found),
            preempted_by_itself: false,
            may_be_javascript: found.may_be_javascript,
            woken: found.waker.is_some(),
            operation: whose(found),
        }
    }

    /// The time in which a thread was ready to run and waited for a CPU, wherever it was.
    pub fn runnable(throttled: bool) -> Self {
        Self {
            kind: StackKind::Runnable,
            frames: &[],
            syscall: None,
            object: None,
            page_fault: false,
            throttled,
            halt: None,
            spins: false,
            never_yields: false,
            copies: false,
            preempted_by_itself: false,
            may_be_javascript: false,
            woken: false,
            operation: None,
        }
    }

    /// Whether the thread waited in the kernel.
    pub(crate) fn is_blocked(&self) -> bool {
        self.kind == StackKind::Blocked
    }

    /// Whether the thread was on a CPU.
    pub(crate) fn is_on_cpu(&self) -> bool {
        self.kind == StackKind::OnCpu
    }

    /// What the system call waits for, where it is known.
    pub(crate) fn waits(&self) -> Option<Waits> {
        self.syscall.and_then(|call| call.waits())
    }

    /// What the call was about, one after the other where it was about several.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &'a Object> {
        self.object.into_iter().flat_map(Object::each)
    }

    /// Whether the name of any function on the stack contains one of the patterns.
    pub(crate) fn calls(&self, patterns: &[&str]) -> bool {
        names(self.frames).any(|name| patterns.iter().any(|pattern| name.contains(pattern)))
    }
}

/// Whose operation a stack shows. Whoever gives the CPU away in parking_lot takes a lock. A
/// logger's waits for a futex are locks, as the value tells.
fn whose(found: &StackEvidence) -> Option<Operation> {
    match operation(&found.stack.frames) {
        None if yields_in_parking_lot(found) => Some(SPINNING_LOCK),
        None => found.syscall.as_ref().and_then(futex::by_value),
        Some(Operation::Logger) => found
            .syscall
            .as_ref()
            .and_then(futex::by_value)
            .or(Some(Operation::Logger)),
        known => known,
    }
}

fn yields_in_parking_lot(found: &StackEvidence) -> bool {
    let waits = found.syscall.and_then(|call| call.waits());
    let mut nameless = found.stack.frames.iter().filter(|f| f.function.is_none());
    waits == Some(Waits::Yield) && nameless.next().is_some_and(is_of_parking_lot)
}

/// Whether a sample's innermost function copies memory.
pub(super) fn copies(found: &StackEvidence) -> bool {
    let innermost = found.stack.frames.first();
    let name = innermost.and_then(|frame| frame.function.as_deref());
    found.stack.kind == StackKind::OnCpu
        && name.is_some_and(|name| name.contains("memcpy") || name.contains("memmove"))
}

/// The names on a stack, innermost first.
pub(crate) fn names(frames: &[Frame]) -> impl Iterator<Item = &str> {
    frames.iter().filter_map(|frame| frame.function.as_deref())
}
