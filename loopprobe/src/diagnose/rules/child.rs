//! Starting a process, waiting for one, or for the pipe whose other end it has.

use super::{Colour, Rule};
use crate::{
    diagnose::{Moment, Object, operation::Operation, syscall::Waits},
    model::Cause,
};

/// A child process, or its output.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Child,
    label: "child process",
    colour: Colour::Other,
    recognised: "starting a process or waiting for one: in wait4, waitid, fork, vfork or clone (but for threads), below std::process, or on a pipe that a child has the other end of",
    advice: "use tokio::process::Command and await its output or status",
    applies: is_child,
};

fn is_child(moment: &Moment<'_>) -> bool {
    moment.waits() == Some(Waits::Child)
        || moment.waits() == Some(Waits::Start) && moment.calls(&["posix_spawn", "spawni"])
        || moment.operation == Some(Operation::Child)
        || moment
            .objects()
            .any(|object| matches!(object, Object::Pipe(pipe) if pipe.child))
}
