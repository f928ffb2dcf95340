//! Held off the CPU because the control group was frozen or the machine suspended.

use super::{Colour, Rule};
use crate::{diagnose::Halt, model::Cause};

/// Frozen with its control group.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Frozen,
    label: "frozen",
    colour: Colour::Wait,
    recognised: "off the CPU in the state of a task whose control group is frozen (cgroup.freeze, freezer.state), or the whole machine (suspend)",
    advice: "not this code: the control group was frozen, as container runtimes do to pause, snapshot or move a container; find out who",
    applies: |moment| moment.halt == Some(Halt::Frozen),
};
