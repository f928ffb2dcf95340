use std::path::Path;

use crate::model::{Blocked, Frame};

/// The function that the user would go and change: the deepest frame that belongs to the user's code or to a
/// dependency. In a stripped module only frames that say where they come from are certain not to be the standard
/// library's; the deepest of them is taken, and the deepest nameless one only where there is none.
pub(crate) fn blocking_call(frames: &[Frame]) -> Option<Blocked> {
    let mut own = frames.iter().filter(|frame| !frame.runtime);
    let known = own.clone().find(|frame| says_where_from(frame));
    known.or_else(|| own.next()).map(describe)
}

/// The innermost async function or block: the awaited child, not the parent that awaits it.
pub(crate) fn innermost_async(frames: &[Frame]) -> Option<Blocked> {
    frames
        .iter()
        .find(|frame| !frame.runtime && frame.async_body)
        .map(describe)
}

fn describe(frame: &Frame) -> Blocked {
    Blocked {
        function: frame.function.clone().unwrap_or_else(|| place(frame)),
        location: frame.location.clone().or_else(|| frame.definition.clone()),
    }
}

/// `module+0xoffset`, for a function without a name: where it begins if that is known, so that all its calls are one.
pub(crate) fn place(frame: &Frame) -> String {
    let module = frame.module.as_deref().map(Path::new);
    let module = module
        .and_then(Path::file_name)
        .map_or_else(|| "?".into(), |name| name.to_string_lossy());
    match frame.function_offset.or(frame.offset) {
        Some(offset) => format!("{module}+{offset:#x}"),
        None => module.into_owned(),
    }
}

/// Whether anything is known of where a frame comes from. Of the others in a stripped module none can tell whose they are.
pub(crate) fn says_where_from(frame: &Frame) -> bool {
    frame.function.is_some()
        || frame.location.is_some()
        || frame.definition.is_some()
        || frame.near.is_some()
}
