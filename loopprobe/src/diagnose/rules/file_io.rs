use super::{Colour, Rule};
use crate::{
    diagnose::{Moment, Object, syscall::Waits},
    model::Cause,
};

/// A file system.
pub(super) const RULE: Rule = Rule {
    cause: Cause::FileIo,
    label: "file I/O",
    colour: Colour::File,
    recognised: "in a system call on a file, a folder, a path or a pipe, blocked or on the CPU",
    advice: "use tokio::fs, or move the call into tokio::task::spawn_blocking",
    applies: is_file,
};

fn is_file(moment: &Moment<'_>) -> bool {
    match (moment.waits(), moment.object) {
        (Some(Waits::Path(_)), _) => true,
        (Some(Waits::Descriptor), Some(Object::Futex { .. } | Object::Other { .. })) => false,
        (Some(Waits::Descriptor), _) => true,
        (Some(Waits::Poll | Waits::Events), Some(Object::Pipe)) => true,
        _ => false,
    }
}
