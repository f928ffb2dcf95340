//! Blocked while the kernel frees memory or holds the thread up for its group's limit.

use super::{Colour, Rule};
use crate::{diagnose::Halt, model::Cause};

/// Short of memory.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Reclaim,
    label: "short of memory",
    colour: Colour::Wait,
    recognised: "blocked while the kernel frees memory for the thread, reads back what it had to drop, or holds the thread up for its control group's limit (memory.high, memory.max)",
    advice: "memory was short: raise the control group's memory limit (memory.high, memory.max), give the machine more, or use less; what this code allocates only came at the wrong time",
    applies: |moment| moment.is_blocked() && matches!(moment.halt, Some(Halt::Reclaim { .. })),
};
