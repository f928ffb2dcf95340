//! Which frame of a stack the user would change: the deepest of the program's own code.

use std::path::Path;

use crate::model::{Blocked, Frame, Role};

/// The frame of the function that the user would go and change: the deepest one of the program's
/// own code; where there is none, the deepest of a dependency.
///
/// In a stripped module only some frames say whose they are. A plain function that refers to a file
/// of the program's own is blamed itself. From an async body, the frames inwards are the program's
/// own too until one says otherwise: of functions without a name, those are its plain functions.
pub(crate) fn blamed(frames: &[Frame]) -> Option<usize> {
    let own = frames.iter().position(is_own);
    if let Some(own) = own {
        let is_hinted = frames[own].role == Role::Unknown;
        return Some(if is_hinted { own } else { inwards(frames, own) });
    }
    let of = |role| frames.iter().position(|frame| frame.role == role);
    of(Role::Dependency)
        .or_else(|| {
            frames
                .iter()
                .position(|frame| frame.role == Role::Unknown && says_where_from(frame))
        })
        .or_else(|| {
            frames
                .iter()
                .position(|frame| frame.role == Role::Unknown && frame.function_offset.is_some())
        })
}

/// The blocking call, in words.
pub(crate) fn blocking_call(frames: &[Frame]) -> Option<Blocked> {
    frames.get(blamed(frames)?).map(describe)
}

/// The innermost async function or block: the awaited child, not the parent that awaits it.
pub(crate) fn innermost_async(frames: &[Frame]) -> Option<Blocked> {
    frames
        .iter()
        .find(|frame| !frame.runtime && frame.async_body)
        .map(describe)
}

/// Through which function the blamed one entered a library (`rayon_core::join`) or, without any,
/// the standard library or the runtime (`std::fs::read`).
pub(crate) fn entry(frames: &[Frame]) -> Option<&Frame> {
    let inside = &frames[..blamed(frames)?];
    let library = inside.iter().rfind(|frame| frame.role == Role::Dependency);
    library.or(inside.last())
}

/// By its name or definition, or by a hint that names a file of the workspace.
fn is_own(frame: &Frame) -> bool {
    let hinted = || {
        frame
            .near
            .as_ref()
            .is_some_and(|near| crate::code::is_workspace(&near.file))
    };
    frame.role == Role::Own || frame.role == Role::Unknown && hinted()
}

/// The innermost of the frames without a name that lie inside an own one. Those next to plumbing
/// which refer to the standard library alone are taken to be it.
fn inwards(frames: &[Frame], own: usize) -> usize {
    let nameless = |frame: &&Frame| {
        frame.role == Role::Unknown && frame.function_offset.is_some() && !is_of_dependency(frame)
    };
    let run = frames[..own].iter().rev().take_while(nameless).count();
    let start = own - run;
    let skipped = frames[start..own]
        .iter()
        .take_while(|frame| is_near_std(frame))
        .count();
    start + skipped
}

fn is_of_dependency(frame: &Frame) -> bool {
    frame.near.as_ref().is_some_and(|near| {
        crate::code::registry_crate(&near.file).is_some_and(|krate| krate != "std")
            || near.file.contains("git/checkouts/")
    })
}

fn is_near_std(frame: &Frame) -> bool {
    frame
        .near
        .as_ref()
        .is_some_and(|near| crate::code::registry_crate(&near.file) == Some("std"))
}

/// A function, in words.
pub(super) fn describe(frame: &Frame) -> Blocked {
    Blocked {
        function: frame.function.clone().unwrap_or_else(|| place(frame)),
        location: frame.location.clone().or_else(|| frame.definition.clone()),
    }
}

/// `module+0xoffset`, for a function without a name: where it begins if that is known, so that all
/// its calls are one.
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

/// Whether anything is known of where a frame comes from. Of the others in a stripped module none
/// can tell whose they are.
pub(super) fn says_where_from(frame: &Frame) -> bool {
    frame.function.is_some()
        || frame.location.is_some()
        || frame.definition.is_some()
        || frame.near.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SourceLocation;

    fn frame(role: Role, near: Option<&str>) -> Frame {
        Frame {
            role,
            function_offset: Some(1),
            near: near.map(|file| SourceLocation {
                file: file.to_owned(),
                line: 1,
                column: None,
            }),
            ..Frame::default()
        }
    }

    const STD: Option<&str> = Some("/rustc/0/library/std/src/thread/mod.rs");
    const AXUM: Option<&str> = Some("/r/axum-0.8.1/src/handler.rs");

    #[test]
    fn the_deepest_own_frame_is_blamed_not_the_library_inside_it() {
        let frames = [
            frame(Role::C, None),
            frame(Role::Dependency, None),
            frame(Role::Own, None),
            frame(Role::Dependency, None),
            frame(Role::Own, None),
        ];
        assert_eq!(blamed(&frames), Some(2));
        assert_eq!(blamed(&frames[..2]), Some(1));
        assert_eq!(blamed(&frames[..1]), None);
    }

    #[test]
    fn plain_functions_inside_an_own_body_are_own_although_nothing_says_so() {
        let body = frame(Role::Own, None);
        let plain = frame(Role::Unknown, None);
        let frames = [frame(Role::C, None), plain.clone(), body.clone()];
        assert_eq!(blamed(&frames), Some(1));
        // Whatever it refers to of the standard library, a function that plumbing does not touch is
        // the user's.
        let frames = [
            frame(Role::C, None),
            frame(Role::Unknown, STD),
            plain.clone(),
            frame(Role::Unknown, STD),
            body.clone(),
        ];
        assert_eq!(blamed(&frames), Some(2));
        // Inside a dependency nothing is the program's.
        let frames = [
            plain,
            frame(Role::Unknown, AXUM),
            frame(Role::Unknown, None),
            body,
        ];
        assert_eq!(blamed(&frames), Some(2));
    }

    #[test]
    fn a_sampled_address_of_no_function_is_never_blamed() {
        let nowhere = Frame {
            module: Some("/opt/app".to_owned()),
            offset: Some(0x1234),
            ..Frame::default()
        };
        assert_eq!(blamed(std::slice::from_ref(&nowhere)), None);
        assert_eq!(blamed(&[nowhere, frame(Role::Own, None)]), Some(1));
    }
}
