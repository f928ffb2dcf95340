//! What a frame and a cause are called in graphs.

use super::{clean, words};
use crate::model::{Cause, Frame, LongPoll, Session, SourceLocation, Stack, StackKind};

/// Whose code a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A task type: the root of a graph.
    Task,
    /// The program's own code.
    Own,
    /// A crate that it depends on, or another library.
    Dependency,
    /// The runtime's and the standard library's plumbing.
    Runtime,
    /// Nobody can tell: a frame without a name or a definition.
    Unknown,
    /// What the kernel did: the leaf of a graph.
    Kernel,
}

/// Whose code `frame` is, in a session of a program.
pub(crate) fn owner(frame: &Frame, session: Option<&Session>) -> Owner {
    if frame.runtime {
        return Owner::Runtime;
    }
    if let Some(place) = frame.definition.as_ref().or(frame.location.as_ref()) {
        return owner_of_file(&place.file);
    }
    let krate = session.map(|session| session.name.replace('-', "_"));
    let first = frame.function.as_deref().and_then(first_segment);
    match (first, krate) {
        (Some(first), Some(krate)) if first == krate => Owner::Own,
        (Some("std" | "core" | "alloc" | "tokio"), _) => Owner::Runtime,
        (Some(_), Some(_)) => Owner::Dependency,
        _ if is_library(frame) => Owner::Dependency,
        (None, _) if frame.function.is_none() => Owner::Unknown,
        _ => Owner::Own,
    }
}

/// Cargo keeps dependencies under `registry/src/` and `git/checkouts/`; rustc's own sources are
/// under `/rustc/`.
pub(crate) fn owner_of_file(file: &str) -> Owner {
    if file.starts_with("/rustc/") || file.contains("/lib/rustlib/src/") {
        Owner::Runtime
    } else if file.contains("registry/src/") || file.contains("git/checkouts/") {
        Owner::Dependency
    } else {
        Owner::Own
    }
}

fn is_library(frame: &Frame) -> bool {
    frame
        .module
        .as_deref()
        .is_some_and(|module| module.ends_with(".so") || module.contains(".so."))
}

/// The crate that a frame's code belongs to, or the interpreter, by its source file's path or its
/// name; `None` where neither tells.
pub(crate) fn krate(frame: &Frame) -> Option<String> {
    if let Some(interpreter) = frame.role.guest() {
        return Some(interpreter.to_owned());
    }
    let place = frame.location.as_ref().or(frame.definition.as_ref());
    let folder = place.and_then(|place| {
        let (folder, _) = place.short_file().split_once("/src/")?;
        Some(folder.rsplit('/').next().unwrap_or(folder))
    });
    match folder {
        // `hyper-util-0.1.20`, but `std` of `library/std`.
        Some(folder) => Some(without_version(folder).to_owned()),
        None => crate_of_name(frame.function.as_deref()?).map(str::to_owned),
    }
}

fn without_version(folder: &str) -> &str {
    match folder.rfind('-') {
        Some(at) if folder[at + 1..].starts_with(|c: char| c.is_ascii_digit()) => &folder[..at],
        _ => folder,
    }
}

/// `a` of `a::b` and `<a::B>::c`; `c` of `<F as c::D>::e`, where the type is only a parameter.
fn crate_of_name(name: &str) -> Option<&str> {
    let own = name.strip_prefix('<').and_then(|rest| {
        let (kind, of_trait) = rest.split_once(" as ")?;
        (!kind.contains("::")).then(|| first_segment(of_trait))?
    });
    own.or_else(|| first_segment(name))
}

/// `a` of `a::b`, `<a::B as c::D>::e` and `<a::B>::e`.
fn first_segment(name: &str) -> Option<&str> {
    let path = name.trim_start_matches(['<', '&', '*', '(']);
    path.split_once("::").map(|(first, _)| first)
}

/// A frame's name: the function, an async definition, or module and offset, of the function where
/// that is known.
pub fn frame_name(frame: &Frame) -> String {
    if let Some(names) = frame.names() {
        return plain(&names);
    }
    if let Some(place) = &frame.definition {
        return plain(&format!("async {place}"));
    }
    let module = frame.module.as_deref().map_or("?", file_name);
    let address = match frame.function_offset.or(frame.offset) {
        Some(offset) => format!("{module}+{offset:#x}"),
        None => module.to_owned(),
    };
    plain(&match &frame.near {
        Some(near) => format!("{address} (near {})", short_place(near)),
        None => address,
    })
}

fn short_place(place: &SourceLocation) -> String {
    format!("{}:{}", file_name(&place.file), place.line)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Without what would break a folded line or a terminal: names come from the target.
pub(crate) fn plain(name: &str) -> String {
    clean(name).replace(';', ",")
}

/// The leaf of a stack: what the thread did while it stood.
pub(crate) fn leaf_name(poll: &LongPoll, stack: &Stack) -> String {
    match stack.kind {
        StackKind::OnCpu => computing_name(),
        StackKind::Runnable => waiting_name(poll),
        StackKind::Blocked => blocked_name(poll, stack.syscall.as_deref()),
    }
}

/// The leaf of computing.
pub(crate) fn computing_name() -> String {
    bracketed(words::cause(Cause::Cpu))
}

/// Causes have the words here that they have in the report.
fn bracketed(words: &str) -> String {
    format!("[{words}]")
}

/// The leaf of waiting in the kernel for something unknown.
pub(crate) const BLOCKED: &str = "[blocked]";

/// The leaf of being ready to run, without running.
pub(crate) fn waiting_name(poll: &LongPoll) -> String {
    bracketed(
        match poll.diagnosis.as_ref().map(|diagnosis| diagnosis.cause) {
            Some(Cause::Throttled) => words::cause(Cause::Throttled),
            _ => words::stack_kind(StackKind::Runnable),
        },
    )
}

fn blocked_name(poll: &LongPoll, syscall: Option<&str>) -> String {
    let Some(syscall) = syscall else {
        return match poll.diagnosis.as_ref().map(|diagnosis| diagnosis.cause) {
            Some(Cause::PageFault) => bracketed(words::cause(Cause::PageFault)),
            _ => BLOCKED.to_owned(),
        };
    };
    match (own_cause(poll, syscall), syscall) {
        (None | Some(Cause::Sleep), "nanosleep" | "clock_nanosleep") => {
            bracketed(words::cause(Cause::Sleep))
        }
        (None | Some(Cause::Child), "wait4" | "waitid") => bracketed(words::cause(Cause::Child)),
        (
            None | Some(Cause::Fsync),
            "fsync" | "fdatasync" | "sync" | "syncfs" | "msync" | "sync_file_range",
        ) => format!("[{}: {}]", words::cause(Cause::Fsync), plain(syscall)),
        (Some(cause), _) => format!("[{}: {}]", words::cause(cause), plain(syscall)),
        (None, _) => format!("[blocked: {}]", plain(syscall)),
    }
}

/// The poll's cause, where it was found in this very system call.
fn own_cause(poll: &LongPoll, syscall: &str) -> Option<Cause> {
    let diagnosis = poll.diagnosis.as_ref()?;
    let evidence = diagnosis.evidence.get("syscall")?;
    let same = evidence == syscall && diagnosis.cause != Cause::Unknown;
    same.then_some(diagnosis.cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_a_line() {
        let frame = Frame {
            function: Some("a::b<[u8; 4]>\n\u{1b}[31m".to_owned()),
            ..Frame::default()
        };
        assert_eq!(frame_name(&frame), "a::b<[u8, 4]>\\n\\u{1b}[31m");
    }

    #[test]
    fn a_nameless_frame_shows_its_module_and_says_that_a_hint_is_one() {
        let frame = Frame {
            module: Some("/usr/bin/api".to_owned()),
            offset: Some(0x1234),
            near: Some(SourceLocation {
                file: "src/store/disk.rs".to_owned(),
                line: 7,
                column: None,
            }),
            ..Frame::default()
        };
        assert_eq!(frame_name(&frame), "api+0x1234 (near disk.rs:7)");
    }

    #[test]
    fn two_places_in_one_nameless_function_have_one_name() {
        let at = |offset| Frame {
            module: Some("/usr/bin/api".to_owned()),
            offset: Some(offset),
            function_offset: Some(0x1200),
            ..Frame::default()
        };
        assert_eq!(frame_name(&at(0x1234)), "api+0x1200");
        assert_eq!(frame_name(&at(0x1299)), "api+0x1200");
    }

    #[test]
    fn a_crate_is_known_by_its_file_or_its_name() {
        let of = |function: &str, file: Option<&str>| {
            krate(&Frame {
                function: Some(function.to_owned()),
                location: file.map(|file| SourceLocation {
                    file: file.to_owned(),
                    line: 1,
                    column: None,
                }),
                ..Frame::default()
            })
        };
        let registry = "/c/registry/src/x-1/hyper-util-0.1.20/src/rt/tokio.rs";
        assert_eq!(of("x", Some(registry)).as_deref(), Some("hyper-util"));
        let std = "/rustc/0123/library/std/src/fs.rs";
        assert_eq!(of("x", Some(std)).as_deref(), Some("std"));
        assert_eq!(of("axum::serve", None).as_deref(), Some("axum"));
        let parameter = "<F as axum::handler::Handler>::call";
        assert_eq!(of(parameter, None).as_deref(), Some("axum"));
        assert_eq!(of("main", None), None);
    }

    #[test]
    fn files_tell_whose_code_it_is() {
        let of = |file: &str| {
            owner(
                &Frame {
                    location: Some(SourceLocation {
                        file: file.to_owned(),
                        line: 1,
                        column: None,
                    }),
                    ..Frame::default()
                },
                None,
            )
        };
        assert_eq!(of("src/main.rs"), Owner::Own);
        assert_eq!(
            of("/home/a/.cargo/registry/src/x-1/a.rs"),
            Owner::Dependency
        );
        assert_eq!(of("/rustc/0123/library/std/src/fs.rs"), Owner::Runtime);
    }
}
