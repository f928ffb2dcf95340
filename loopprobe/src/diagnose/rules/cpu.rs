//! Computing: on a CPU with nothing else to explain it.

use super::{Colour, Rule};
use crate::model::{Cause, StackKind};

/// Computing.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Cpu,
    label: "computing",
    colour: Colour::Cpu,
    recognised: "on a CPU, in the task's own code or in system calls of other kinds",
    advice: "move the computation to tokio::task::spawn_blocking or a thread pool such as rayon, or split it with tokio::task::yield_now().await",
    applies: |moment| moment.kind == StackKind::OnCpu,
};
