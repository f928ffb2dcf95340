//! A stack in few rows: the program's own frames whole, runs of other people's as one.

use std::borrow::Cow;

use crate::{
    model::{Frame, Session},
    report::label::{Owner, krate, owner},
};

/// One row of a folded stack.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row<'a> {
    /// A frame of the program's own, or the call that is to blame.
    Own(&'a Frame),
    /// A frame that is neither folded nor known to be the program's own.
    Other(&'a Frame),
    /// A run of frames of libraries and the runtime.
    Folded(Run),
}

/// Frames that are not shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// How many.
    pub(super) frames: usize,
    /// Whose they are: names of crates, in the order of the stack, each once.
    pub(super) crates: Vec<String>,
}

/// Folds a stack, innermost first. `blamed` is the call that is to blame.
///
/// Of the frames deeper than the program's own code the outermost is shown, such as
/// `std::fs::read`: that is what it called. An interpreter's are one row wherever they are. What
/// lies outside of its outermost own frame is left out, for that is how a task comes to be polled.
pub(super) fn fold<'a>(
    frames: &'a [Frame],
    blamed: Option<&str>,
    session: Option<&Session>,
) -> Vec<Row<'a>> {
    let is_blamed = |frame: &Frame| blamed.is_some_and(|blamed| name(frame) == blamed);
    let is_own = |frame: &Frame| is_blamed(frame) || owner(frame, session) == Owner::Own;
    let is_hidden = |frame: &Frame| {
        !is_own(frame) && matches!(owner(frame, session), Owner::Runtime | Owner::Dependency)
    };
    let Some(last) = frames.iter().rposition(|frame| !is_hidden(frame)) else {
        // Nothing but libraries: what was called last is all there is to show.
        return frames.first().into_iter().map(Row::Other).collect();
    };
    let mut rows = Vec::new();
    for run in frames[..=last].chunk_by(|a, b| is_hidden(a) == is_hidden(b)) {
        match run {
            [.., called] if is_hidden(called) && rows.is_empty() && !run.iter().any(is_guest) => {
                rows.push(Row::Other(called));
            }
            [first, ..] if is_hidden(first) => rows.push(Row::Folded(Run::of(run))),
            shown => rows.extend(shown.iter().map(|frame| {
                if is_own(frame) {
                    Row::Own(frame)
                } else {
                    Row::Other(frame)
                }
            })),
        }
    }
    rows
}

fn is_guest(frame: &Frame) -> bool {
    frame.role.guest().is_some()
}

impl Run {
    fn of(frames: &[Frame]) -> Self {
        let mut crates: Vec<String> = Vec::new();
        for name in frames.iter().filter_map(krate) {
            if !crates.contains(&name) {
                crates.push(name);
            }
        }
        // Everything stands on the standard library: it is worth a word only where nothing else is.
        let all = crates.clone();
        crates.retain(|name| !matches!(name.as_str(), "std" | "core" | "alloc"));
        Self {
            frames: frames.len(),
            crates: if crates.is_empty() { all } else { crates },
        }
    }
}

/// A frame's function, or `libfoo.so+0x1234` for one without a name: where its function begins, as
/// far as that is known.
pub(super) fn name(frame: &Frame) -> Cow<'_, str> {
    if let Some(function) = &frame.function {
        return Cow::Borrowed(function);
    }
    let module = frame.module.as_deref().unwrap_or("code of no file");
    let file = module.rsplit('/').next().unwrap_or(module);
    match frame.function_offset.or(frame.offset) {
        Some(offset) => Cow::Owned(format!("{file}+{offset:#x}")),
        None => Cow::Borrowed(file),
    }
}

/// Whether two stacks show the same rows, whatever the instructions in them.
pub(super) fn same(one: &[Row<'_>], other: &[Row<'_>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| alike(a, b))
}

/// How many rows two stacks have in common, from the outermost on.
pub(super) fn shared(one: &[Row<'_>], other: &[Row<'_>]) -> usize {
    let outwards = one.iter().rev().zip(other.iter().rev());
    outwards.take_while(|(a, b)| alike(a, b)).count()
}

fn alike(one: &Row<'_>, other: &Row<'_>) -> bool {
    match (one, other) {
        (Row::Own(a), Row::Own(b)) | (Row::Other(a), Row::Other(b)) => name(a) == name(b),
        (Row::Folded(a), Row::Folded(b)) => a.crates == b.crates,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Outcome, SourceLocation, Stack, StackKind};

    fn frame(name: &str, file: &str) -> Frame {
        Frame {
            function: Some(name.to_owned()),
            location: Some(SourceLocation {
                file: file.to_owned(),
                line: 7,
                column: None,
            }),
            ..Frame::default()
        }
    }

    fn stack(frames: Vec<Frame>) -> Stack {
        Stack {
            ns: 1,
            start_ns: 0,
            kind: StackKind::Blocked,
            outcome: Outcome::Complete,
            syscall: None,
            frames,
        }
    }

    fn shown(stack: &Stack, blamed: Option<&str>) -> Vec<String> {
        fold(&stack.frames, blamed, None)
            .into_iter()
            .map(|row| match row {
                Row::Own(frame) => format!("> {}", frame.function.as_deref().unwrap()),
                Row::Other(frame) => frame.function.clone().unwrap(),
                Row::Folded(run) => format!("{} of {}", run.frames, run.crates.join(", ")),
            })
            .collect()
    }

    const STD: &str = "/rustc/0123/library/std/src/fs.rs";
    const AXUM: &str = "/c/registry/src/x-1/axum-0.8.9/src/lib.rs";
    const HYPER: &str = "/c/registry/src/x-1/hyper-util-0.1.20/src/lib.rs";

    #[test]
    fn own_frames_are_whole_and_a_run_of_others_is_one_row() {
        let stack = stack(vec![
            frame("read", STD),
            frame("std::fs::read", STD),
            frame("app::store", "src/store.rs"),
            frame("core::future::poll_fn", STD),
            frame("axum::Handler::call", AXUM),
            frame("hyper_util::poll", HYPER),
            frame("app::handle", "src/main.rs"),
            frame(
                "tokio::poll",
                "/c/registry/src/x-1/tokio-1.44.2/src/task.rs",
            ),
        ]);
        assert_eq!(
            shown(&stack, Some("app::store")),
            [
                "std::fs::read",
                "> app::store",
                "3 of axum, hyper-util",
                "> app::handle"
            ]
        );
    }

    #[test]
    fn an_interpreters_frames_are_one_row_although_they_are_innermost() {
        let guest = |name: &str| Frame {
            function: Some(name.to_owned()),
            role: crate::model::Role::CPython,
            runtime: true,
            ..Frame::default()
        };
        let stack = stack(vec![
            frame("clock_nanosleep", STD),
            guest("time_sleep"),
            guest("py::nap:/app/x.py"),
            guest("PyObject_Call"),
            frame("app::store", "src/store.rs"),
        ]);
        assert_eq!(
            shown(&stack, Some("app::store")),
            ["4 of CPython", "> app::store"]
        );
    }

    #[test]
    fn a_blamed_call_of_a_library_is_shown() {
        let stack = stack(vec![frame("read", STD), frame("axum::serve", AXUM)]);
        assert_eq!(
            shown(&stack, Some("axum::serve")),
            ["read", "> axum::serve"]
        );
        assert_eq!(shown(&stack, None), ["read"]);
    }

    #[test]
    fn samples_of_one_function_look_alike() {
        let at = |offset| Frame {
            module: Some("/usr/bin/api".to_owned()),
            offset: Some(offset),
            function_offset: Some(0x1200),
            ..Frame::default()
        };
        let (one, other) = (stack(vec![at(0x1234)]), stack(vec![at(0x1299)]));
        fn rows(stack: &Stack) -> Vec<Row<'_>> {
            fold(&stack.frames, None, None)
        }
        assert!(same(&rows(&one), &rows(&other)));
        let elsewhere = stack(vec![Frame {
            function_offset: Some(0x1300),
            ..at(0x1234)
        }]);
        assert!(!same(&rows(&one), &rows(&elsewhere)));
    }
}
