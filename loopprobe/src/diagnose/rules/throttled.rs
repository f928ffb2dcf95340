//! Ready to run while the control group's CPU quota was used up.

use super::{Colour, Rule};
use crate::model::{Cause, StackKind};

/// Waiting for a CPU while the control group had none left to give.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Throttled,
    label: "throttled by the control group",
    colour: Colour::Wait,
    recognised: "as preempted, while the control group's CPU quota was used up (nr_throttled in cpu.stat)",
    advice: "the quota is not this code's fault: raise the control group's CPU quota (cpu.max), or use fewer worker threads",
    applies: |moment| moment.kind == StackKind::Runnable && moment.throttled,
};
