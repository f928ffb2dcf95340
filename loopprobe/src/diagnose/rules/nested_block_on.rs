//! Parked in another event loop inside the poll, or in an epoll_wait that only a loop enters.

use super::{Colour, Rule};
use crate::{
    diagnose::{Moment, operation::Operation, syscall::Waits},
    model::Cause,
};

/// Another event loop inside the poll.
pub(super) const RULE: Rule = Rule {
    cause: Cause::NestedBlockOn,
    label: "nested block_on",
    colour: Colour::Other,
    recognised: "blocked in the parking of another event loop: block_on of Tokio, futures or pollster, or epoll_wait inside a poll",
    advice: "await the future instead of block_on, or run it in tokio::task::spawn_blocking",
    applies: |moment| moment.is_blocked() && is_nested(moment),
};

fn is_nested(moment: &Moment<'_>) -> bool {
    match moment.waits() {
        // An `epoll_wait` is a loop's own; only a loop would enter one inside a poll.
        Some(Waits::Epoll) => true,
        Some(Waits::Futex | Waits::Poll | Waits::Events) => {
            moment.operation == Some(Operation::Loop)
        }
        _ => false,
    }
}
