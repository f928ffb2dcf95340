//! Blocked for time alone, in nanosleep, clock_nanosleep or pause.

use super::{Colour, Rule};
use crate::{diagnose::syscall::Waits, model::Cause};

/// Time itself.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Sleep,
    label: "sleep",
    colour: Colour::Sleep,
    recognised: "blocked in nanosleep, clock_nanosleep or pause, or in poll or select without any descriptor",
    advice: "use tokio::time::sleep(..).await instead of std::thread::sleep",
    applies: |moment| moment.is_blocked() && moment.waits() == Some(Waits::Time),
};
