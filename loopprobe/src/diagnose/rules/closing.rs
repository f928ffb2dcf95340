//! Giving a descriptor back: in close, close_range or shutdown, often below a drop.

use super::{Colour, Rule};
use crate::{diagnose::syscall::Waits, model::Cause};

/// Giving a descriptor back.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Closing,
    label: "closing",
    colour: Colour::Net,
    recognised: "in close, close_range or shutdown, often below a drop",
    advice: "closing waits if SO_LINGER is set on a socket with unsent data, or the file system writes on close: leave SO_LINGER off, or drop the value in tokio::task::spawn_blocking",
    applies: |moment| moment.waits() == Some(Waits::Close),
};
