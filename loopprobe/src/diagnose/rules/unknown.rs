//! The last row, which always applies: no other one explains the largest part.

use super::{Colour, Rule};
use crate::model::Cause;

/// What no other row explains.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Unknown,
    label: "unknown cause",
    colour: Colour::Unknown,
    recognised: "none of the others explains the largest part",
    advice: "look at the stacks; a higher --sample-hz or a lower --min-block shows more of them",
    applies: |_| true,
};
