//! Blocked in futex below a synchronous channel between threads, such as `std::sync::mpsc`.

use super::{Colour, Rule, spin::is_spinning};
use crate::{
    diagnose::{operation::Operation, syscall::Waits},
    model::Cause,
};

/// A channel between threads.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Channel,
    label: "channel",
    colour: Colour::Lock,
    recognised: "blocked in futex, or spinning before that, below a synchronous channel: std::sync::mpsc, crossbeam_channel, flume, kanal",
    advice: "use tokio::sync::mpsc and await, or wait in tokio::task::spawn_blocking",
    applies: |moment| {
        moment.operation == Some(Operation::Channel)
            && (moment.is_blocked() && moment.waits() == Some(Waits::Futex) || is_spinning(moment))
    },
};
