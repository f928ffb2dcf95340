//! Capturing a stack trace, told by its frames; a process's first reads debug information.

use super::{Colour, Rule};
use crate::{diagnose::operation::Operation, model::Cause};

/// Making a backtrace.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Backtrace,
    label: "making a backtrace",
    colour: Colour::Cpu,
    recognised: "below std::backtrace, the backtrace crate or _Unwind_Backtrace; the first one of a process reads its debug information",
    advice: "errors that capture a backtrace (anyhow, eyre, RUST_BACKTRACE or RUST_LIB_BACKTRACE set) are costly: turn it off, or capture on fewer paths",
    applies: |moment| moment.operation == Some(Operation::Backtrace),
};
