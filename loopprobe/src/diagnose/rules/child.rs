use super::{Colour, Rule};
use crate::{
    diagnose::{Moment, Object, syscall::Waits},
    model::Cause,
};

/// A child process, or its output.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Child,
    label: "child process",
    colour: Colour::Other,
    recognised: "blocked in wait4, waitid, vfork or clone, or on a pipe below std::process",
    advice: "use tokio::process::Command and await its output or status",
    applies: |moment| moment.is_blocked() && is_child(moment),
};

/// Functions that wait for a child or for its output.
const CHILDREN: &[&str] = &[
    "std::process::",
    "std::sys::process::",
    "posix_spawn",
    "waitpid",
];

fn is_child(moment: &Moment<'_>) -> bool {
    match moment.waits() {
        Some(Waits::Child) => true,
        Some(Waits::Poll | Waits::Events) => moment.calls(CHILDREN),
        Some(Waits::Descriptor) => {
            matches!(moment.object, None | Some(Object::Pipe)) && moment.calls(CHILDREN)
        }
        _ => false,
    }
}
