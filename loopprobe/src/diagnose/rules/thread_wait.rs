//! In futex for no lock: park, join, condition variable, barrier, or nothing tells what.

use super::{Colour, Rule, spin::is_spinning};
use crate::{
    diagnose::{operation::Operation, syscall::Waits},
    model::Cause,
};

/// Until another thread has done something.
pub(super) const RULE: Rule = Rule {
    cause: Cause::ThreadWait,
    label: "waiting for a thread",
    colour: Colour::Lock,
    recognised: "blocked in futex until another thread says so: park, condition variable, latch, barrier, join, a thread pool, or nothing tells what for",
    advice: "let the other thread answer through tokio::sync::oneshot and await that, or wait in tokio::task::spawn_blocking",
    applies: |moment| {
        moment.is_blocked()
            && moment.waits() == Some(Waits::Futex)
            && !matches!(moment.operation, Some(Operation::Lock(_)))
            || moment.operation == Some(Operation::ThreadWait("rayon")) && is_spinning(moment)
    },
};
