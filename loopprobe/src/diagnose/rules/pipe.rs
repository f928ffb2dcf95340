//! Blocked at another program's pace: on a pipe, a terminal or standard output.

use super::{Colour, Rule};
use crate::{
    diagnose::{Moment, Object, syscall::Waits},
    model::Cause,
};

/// A pipe or a terminal: another program's pace.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Pipe,
    label: "pipe",
    colour: Colour::Other,
    recognised: "blocked on a pipe, a terminal or, as standard output or error, a local socket, or in opening a named pipe",
    advice: "whoever reads the other end does not keep up, and a full pipe stops every task that prints: make the reader drain it, and write logs from a thread of their own (tracing_appender::non_blocking and the like)",
    applies: |moment| moment.is_blocked() && is_pipe(moment),
};

fn is_pipe(moment: &Moment<'_>) -> bool {
    let about = matches!(
        moment.waits(),
        Some(Waits::Descriptor | Waits::Socket | Waits::Poll | Waits::Events | Waits::Path(_))
    );
    about && moment.objects().any(Object::is_output)
}
