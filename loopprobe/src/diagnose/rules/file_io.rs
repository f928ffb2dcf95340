//! In a system call on a file, folder or path, blocked or on the CPU.

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
    recognised: "in a system call on a file, a folder or a path, blocked or on the CPU; a descriptor of which nothing is known only below std::fs",
    advice: "use tokio::fs, or move the call into tokio::task::spawn_blocking",
    applies: is_file,
};

/// The standard library's functions of files.
pub(super) const STDS: &[&str] = &["std::fs::", "std::sys::fs::"];

fn is_file(moment: &Moment<'_>) -> bool {
    match (moment.waits(), moment.object) {
        (Some(Waits::Path(_)), _) => true,
        (Some(Waits::Descriptor), Some(Object::File { .. })) => true,
        // The file has been closed meanwhile, and its descriptor is another's by now.
        (Some(Waits::Descriptor), None | Some(Object::Socket(_))) => moment.calls(STDS),
        _ => false,
    }
}
