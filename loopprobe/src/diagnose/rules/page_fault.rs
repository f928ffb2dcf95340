//! In the kernel without a system call: touching memory that was not there yet.

use super::{Colour, Rule};
use crate::{diagnose::Moment, model::Cause};

/// Memory that was not there yet.
pub(super) const RULE: Rule = Rule {
    cause: Cause::PageFault,
    label: "page faults",
    colour: Colour::File,
    recognised: "in the kernel without a system call and in no other state that explains it, blocked (where no signal would wake it) or on the CPU",
    advice: "read or prefault the memory (mmap, large allocation) in tokio::task::spawn_blocking before tasks use it",
    applies: is_fault,
};

fn is_fault(moment: &Moment<'_>) -> bool {
    moment.halt.is_none() && moment.waits().is_none() && moment.page_fault
}
