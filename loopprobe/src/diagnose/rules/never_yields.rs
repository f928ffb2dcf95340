//! On the CPU in a loop whose awaits are all ready: no single one of them takes long.

use super::{Colour, Rule};
use crate::model::Cause;

/// Many ready awaits in one poll.
pub(super) const RULE: Rule = Rule {
    cause: Cause::NeverYields,
    label: "never yielding",
    colour: Colour::Cpu,
    recognised: "on the CPU in a loop of an async function in which awaits complete that never suspend: eight or more were seen in one poll, and the turn between two is short",
    advice: "what this loop awaits is always ready, so it never gives its thread back: call tokio::task::yield_now().await or tokio::task::consume_budget().await every so many turns, or move the loop to a thread of its own",
    applies: |moment| moment.is_on_cpu() && moment.never_yields,
};
