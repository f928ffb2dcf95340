use std::io::{self, Write};

use super::style::FAINT;
use crate::{
    model::{Frame, Outcome, Stack},
    report::{Measured, clean, words},
};

/// A folded stack, innermost first: the runtime's frames are counted, not shown, but for the outermost of those that the
/// stack begins with: that is the function that the code above called, such as `std::fs::read`.
/// `ns` is its time, together with those that look like it.
pub fn write(out: &mut impl Write, stack: &Stack, ns: u64) -> io::Result<()> {
    if stack.frames.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "    {FAINT}{} {}",
        Measured(ns),
        words::stack_kind(stack.kind)
    )?;
    if let Some(syscall) = &stack.syscall {
        write!(out, " in {}", clean(syscall))?;
    }
    writeln!(out, "{}{FAINT:#}", outcome(stack.outcome))?;
    for row in fold(&stack.frames) {
        match row {
            Row::Frame(frame) => writeln!(out, "      {}", describe(frame))?,
            Row::Folded(count) => {
                writeln!(out, "      {FAINT}... {count} of the runtime{FAINT:#}")?
            }
        }
    }
    Ok(())
}

/// Whether two stacks show the same functions.
pub fn looks_like(one: &Stack, other: &Stack) -> bool {
    let alike = |(a, b): (&Row<'_>, &Row<'_>)| match (a, b) {
        (Row::Frame(a), Row::Frame(b)) if a.function.is_some() => a.function == b.function,
        _ => a == b,
    };
    let (rows, others) = (fold(&one.frames), fold(&other.frames));
    (one.kind, &one.syscall, one.outcome) == (other.kind, &other.syscall, other.outcome)
        && rows.len() == others.len()
        && rows.iter().zip(&others).all(alike)
}

#[derive(Debug, PartialEq, Eq)]
enum Row<'a> {
    Frame(&'a Frame),
    Folded(usize),
}

fn fold(frames: &[Frame]) -> Vec<Row<'_>> {
    let Some(last_own) = frames.iter().rposition(|frame| !frame.runtime) else {
        // Nothing but the runtime: what it called last is all there is to show.
        return frames.first().into_iter().map(Row::Frame).collect();
    };
    let mut rows = Vec::new();
    for run in frames[..=last_own].chunk_by(|a, b| a.runtime == b.runtime) {
        match run {
            [.., called] if called.runtime && rows.is_empty() => rows.push(Row::Frame(called)),
            [first, ..] if first.runtime => rows.push(Row::Folded(run.len())),
            own => rows.extend(own.iter().map(Row::Frame)),
        }
    }
    rows
}

fn describe(frame: &Frame) -> String {
    let name = match &frame.function {
        Some(function) => clean(function).into_owned(),
        None => place(frame),
    };
    let location = frame.location.as_ref().or(frame.definition.as_ref());
    match (location, &frame.near) {
        (Some(location), _) => format!("{name}  {}", words::place(location)),
        (None, Some(near)) => format!("{name}  near {}?", words::place(near)),
        (None, None) => name,
    }
}

/// `libfoo.so+0x1234` for a frame without a name.
fn place(frame: &Frame) -> String {
    let module = frame.module.as_deref().unwrap_or("?");
    let file = module.rsplit('/').next().unwrap_or(module);
    match frame.offset {
        Some(offset) => format!("{}+{offset:#x}", clean(file)),
        None => clean(file).into_owned(),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete | Outcome::FramePointers => "",
        Outcome::Searched => "; no unwind information for the innermost frames: found by a search",
        Outcome::Truncated => "; stack cut short: deeper than is copied",
        Outcome::NoUnwindInfo => "; stack incomplete: no unwind information",
        Outcome::Inconsistent => "; stack incomplete: unwind information led astray",
        Outcome::Unreadable => "; stack incomplete: memory could not be read",
        Outcome::OtherStack => "; on a stack that is not the thread's",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str, runtime: bool) -> Frame {
        Frame {
            function: Some(name.to_owned()),
            runtime,
            ..Frame::default()
        }
    }

    fn folded(frames: &[Frame]) -> Vec<String> {
        fold(frames)
            .into_iter()
            .map(|row| match row {
                Row::Frame(frame) => describe(frame),
                Row::Folded(count) => format!("{count} folded"),
            })
            .collect()
    }

    #[test]
    fn the_function_that_own_code_called_is_shown() {
        let frames = [
            frame("read", true),
            frame("std::fs::read", true),
            frame("app::store", false),
            frame("core::future::poll_fn", true),
            frame("tokio::select", true),
            frame("app::handle", false),
            frame("tokio::poll", true),
        ];
        assert_eq!(
            folded(&frames),
            ["std::fs::read", "app::store", "2 folded", "app::handle"]
        );
    }

    #[test]
    fn a_stack_of_the_runtime_alone_shows_its_innermost_frame() {
        assert_eq!(
            folded(&[frame("nanosleep", true), frame("tokio::x", true)]),
            ["nanosleep"]
        );
        assert_eq!(folded(&[]), [""; 0]);
    }

    #[test]
    fn a_nameless_frame_shows_its_place_and_marks_a_hint() {
        let mut nameless = Frame {
            module: Some("/usr/lib/libx.so".to_owned()),
            offset: Some(0x1234),
            ..Frame::default()
        };
        assert_eq!(describe(&nameless), "libx.so+0x1234");
        nameless.near = Some(crate::model::SourceLocation {
            file: "src/a.rs".to_owned(),
            line: 7,
            column: None,
        });
        assert_eq!(describe(&nameless), "libx.so+0x1234  near src/a.rs:7?");
    }
}
