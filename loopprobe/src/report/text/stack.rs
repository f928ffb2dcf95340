//! Writes at most 16 rows of folded frames, the program's own marked.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

use super::{
    fold::{Row, Run, name},
    style::{FAINT, OWN},
    width::Width,
};
use crate::{
    model::{Frame, Outcome},
    report::{clean, words},
};

/// Rows shown at most.
const ROWS: usize = 16;
/// Of these without a name, one after the other, at most: a stack of addresses is for programs.
const NAMELESS: usize = 5;
/// Crates named at most in one row.
const CRATES: usize = 4;
/// Columns in front of a frame.
const INDENT: usize = 6;

/// A folded stack, a row each: own frames are marked.
pub(super) fn write(out: &mut impl Write, rows: &[Row<'_>], width: Width) -> io::Result<()> {
    let room = width.behind(INDENT);
    let shown = rows.len().min(ROWS).min(first_too_nameless(rows));
    for row in &rows[..shown] {
        match row {
            Row::Own(frame) => {
                writeln!(out, "    {OWN}> {}{OWN:#}", describe(frame, room))?;
            }
            Row::Other(frame) => writeln!(out, "      {}", describe(frame, room))?,
            Row::Folded(run) => writeln!(out, "      {FAINT}{}{FAINT:#}", folded(run, room))?,
        }
    }
    if rows.len() > shown {
        let more = words::count((rows.len() - shown) as u64, "more row");
        writeln!(out, "      {FAINT}{more} out to the task{FAINT:#}")?;
    }
    Ok(())
}

/// The row from which on nothing is shown: behind the outermost own frame or, where none is known,
/// [`NAMELESS`] rows behind the outermost that has a name.
fn first_too_nameless(rows: &[Row<'_>]) -> usize {
    let named = |row: &Row<'_>| matches!(row, Row::Other(frame) if frame.function.is_some());
    let last = |wanted: &dyn Fn(&Row<'_>) -> bool| rows.iter().rposition(wanted);
    match last(&|row| matches!(row, Row::Own(_))) {
        Some(own) => own + 1,
        None => last(&named).map_or(0, |named| named + 1) + NAMELESS,
    }
}

/// `9 of axum, hyper, tower`.
fn folded(run: &Run, room: Width) -> String {
    let mut names: Vec<_> = run
        .crates
        .iter()
        .map(|name| clean(name))
        .take(CRATES)
        .collect();
    if run.crates.len() > CRATES {
        names.push("others".into());
    }
    let frames = run.frames;
    if names.is_empty() {
        return words::count(frames as u64, "library frame");
    }
    room.fit(&format!("{frames} of {}", names.join(", ")))
        .into_owned()
}

/// A frame's name and place. A hint stands only where there is no name.
fn describe(frame: &Frame, room: Width) -> String {
    const NEAR: &str = "near ";
    let name = frame.names().unwrap_or_else(|| name(frame));
    let name = clean(&name);
    let location = frame.location.as_ref().filter(|_| frame.function.is_some());
    match (location.or(frame.definition.as_ref()), &frame.near) {
        (Some(location), _) => room.fit_pair(&name, &words::place(location)),
        (None, Some(near)) if frame.function.is_none() => {
            let used = name.width() + 2 + NEAR.len();
            let place = format!("{}?", words::place(near));
            format!("{name}  {NEAR}{}", room.behind(used).fit(&place))
        }
        _ => room.fit(&name).into_owned(),
    }
}

/// Why a stack does not reach its poll; `None` if it does.
pub(super) fn shortfall(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Complete | Outcome::FramePointers => None,
        Outcome::Searched => {
            Some("no unwind information for the innermost frames: found by a search")
        }
        Outcome::Truncated => Some("stack cut short: deeper than is copied"),
        Outcome::NoUnwindInfo => Some("stack incomplete: no unwind information"),
        Outcome::Inconsistent => Some("stack incomplete: unwind information led astray"),
        Outcome::Unreadable => Some("stack incomplete: memory could not be read"),
        Outcome::OtherStack => Some("on a stack that is not the thread's"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SourceLocation;

    fn place(file: &str) -> SourceLocation {
        SourceLocation {
            file: file.to_owned(),
            line: 7,
            column: None,
        }
    }

    #[test]
    fn a_nameless_frame_shows_its_address_and_marks_a_hint() {
        let mut nameless = Frame {
            module: Some("/usr/lib/libx.so".to_owned()),
            offset: Some(0x1234),
            ..Frame::default()
        };
        let wide = Width::default();
        assert_eq!(describe(&nameless, wide), "libx.so+0x1234");
        nameless.near = Some(place("src/a.rs"));
        assert_eq!(
            describe(&nameless, wide),
            "libx.so+0x1234  near src/a.rs:7?"
        );
        nameless.function = Some("x::f".to_owned());
        assert_eq!(describe(&nameless, wide), "x::f");
    }

    #[test]
    fn a_frame_fits_its_room() {
        let frame = Frame {
            function: Some(
                "<axum::util::MapIntoResponseFuture as core::future::Future>::poll".into(),
            ),
            location: Some(place("axum-0.8.9/src/a/long/path/to/some/module/of/it.rs")),
            ..Frame::default()
        };
        for columns in [40, 60, 80, 120, 200] {
            let line = describe(&frame, Width::new(Some(columns)));
            assert!(line.width() <= columns, "{line}");
            assert!(line.contains("Future>::poll"), "{line}");
        }
    }
}
