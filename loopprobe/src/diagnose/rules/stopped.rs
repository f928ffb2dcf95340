//! Off the CPU by a stop signal, or held by a debugger or tracer.

use super::{Colour, Rule};
use crate::{diagnose::Halt, model::Cause};

/// Stopped from outside.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Stopped,
    label: "stopped",
    colour: Colour::Wait,
    recognised: "off the CPU in the state of a task that a signal (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU) or a debugger has stopped",
    advice: "not this code: somebody stopped the process with a signal, or a debugger or tracer had it (strace, gdb, a checkpoint); find out who",
    applies: |moment| matches!(moment.halt, Some(Halt::Stopped { .. } | Halt::Traced)),
};
