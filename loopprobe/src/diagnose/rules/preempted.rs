//! Ready to run while others had the CPU, and not for having yielded it.

use super::{Colour, Rule};
use crate::{
    diagnose::syscall::Waits,
    model::{Cause, StackKind},
};

/// Waiting for a CPU.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Preempted,
    label: "preempted",
    colour: Colour::Wait,
    recognised: "most of the poll was spent ready to run, waiting for a CPU",
    advice: "other threads had the CPU, which is not this code's fault: use fewer worker threads than CPUs, or move the neighbours away",
    // Who gives the CPU away was not preempted.
    applies: |moment| moment.kind == StackKind::Runnable && moment.waits() != Some(Waits::Yield),
};
