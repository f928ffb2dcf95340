//! In sched_yield again and again, unless a library does so before it sleeps.

use super::{Colour, Rule};
use crate::{
    diagnose::{Moment, operation::Operation, syscall::Waits},
    model::Cause,
};

/// Waiting for another thread without going to sleep.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Spin,
    label: "spinning",
    colour: Colour::Cpu,
    recognised: "in sched_yield: on the CPU, or waiting for one after having given it up; or on the CPU in a small loop that executes the processor's hint for such loops (std::hint::spin_loop)",
    advice: "it asks again and again whether another thread is done, and gives its CPU away in between: await a tokio::sync::Notify or oneshot instead, or wait in tokio::task::spawn_blocking",
    // A lock, a channel or a pool whose library spins for a while before it sleeps is that.
    applies: |moment| is_spinning(moment) && !is_librarys(moment.operation),
};

/// Whether it asks again and again.
pub(super) fn is_spinning(moment: &Moment<'_>) -> bool {
    moment.waits() == Some(Waits::Yield) || moment.is_on_cpu() && moment.spins
}

fn is_librarys(operation: Option<Operation>) -> bool {
    matches!(
        operation,
        Some(Operation::Lock(_) | Operation::Channel | Operation::ThreadWait("rayon"))
    )
}
