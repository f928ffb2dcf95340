//! A table of processes that use Tokio.

use std::{
    collections::HashMap,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use nix::unistd::{Uid, User};
use unicode_width::UnicodeWidthStr as _;

use crate::{
    process::{self, About},
    report::{beginning_of, clean},
    runtime::Presence,
};

/// One process and one file with Tokio in it.
#[derive(Debug)]
pub(super) struct Row {
    /// The process.
    pub pid: u32,
    name: String,
    about: About,
    tokio: String,
    symbols: &'static str,
    /// The shared object that has Tokio; `None` where the program itself has it.
    library: Option<PathBuf>,
    /// The processes below it that are in the table too.
    starts: Vec<u32>,
}

impl Row {
    /// Reads what the table tells of a process besides.
    pub(super) fn new(pid: u32, (path, image): &(PathBuf, Presence)) -> Self {
        let program = process::program(pid).ok();
        Self {
            pid,
            name: process::name(pid).unwrap_or_default(),
            about: About::read(pid),
            tokio: image.versions.join(","),
            symbols: match (image.lines, image.stripped) {
                (true, _) => "lines",
                (false, false) => "symbols",
                (false, true) => "stripped",
            },
            library: (program.as_ref() != Some(path)).then(|| path.clone()),
            starts: Vec::new(),
        }
    }

    /// Its command line. A name that it says nothing of comes first.
    fn command(&self, short: bool) -> String {
        let mut words = self.about.command.clone();
        if short {
            words.iter_mut().take(2).for_each(without_folder);
        }
        let line = words.join(" ");
        let mut text = if line.contains(&self.name) {
            line
        } else {
            format!("[{}] {line}", self.name)
        };
        if !self.starts.is_empty() {
            let pids: Vec<_> = self.starts.iter().map(u32::to_string).collect();
            text = format!("(parent of {}) {text}", pids.join(", "));
        }
        clean(&text).into_owned()
    }
}

/// An absolute path is told by its last part.
fn without_folder(word: &mut String) {
    if word.starts_with('/')
        && let Some((_, file)) = word.rsplit_once('/')
        && !file.is_empty()
    {
        *word = file.to_owned();
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct Listing(Vec<Row>);

impl Listing {
    /// A table of these rows, which learn of each other who started whom.
    pub(super) fn new(mut rows: Vec<Row>) -> Self {
        let pids: Vec<u32> = rows.iter().map(|row| row.pid).collect();
        for row in &mut rows {
            row.starts = process::descendants(row.pid).unwrap_or_default();
            row.starts.retain(|below| pids.contains(below));
        }
        Self(rows)
    }

    /// Writes it in so many columns; with `None` nothing is cut.
    ///
    /// # Errors
    ///
    /// Whatever writing gives.
    pub(super) fn write(&self, out: &mut impl Write, columns: Option<usize>) -> io::Result<()> {
        let mut users = Users::default();
        let cells: Vec<_> = self.0.iter().map(|row| cells(row, &mut users)).collect();
        let heads = ["PID", "USER", "AGE", "CONTAINER", "TOKIO", "SYMBOLS", "IN"];
        let widths: Vec<usize> = (0..heads.len())
            .map(|column| {
                let widest = cells.iter().map(|cells| cells[column].width()).max();
                // Most machines have no containers, most programs no runtime in a library.
                match widest.unwrap_or(0) {
                    0 => 0,
                    widest => widest.max(heads[column].len()),
                }
            })
            .collect();
        let heads = heads.map(str::to_owned);
        line(out, &heads, &widths, "COMMAND", columns)?;
        for (row, cells) in self.0.iter().zip(&cells) {
            line(
                out,
                cells,
                &widths,
                &row.command(columns.is_some()),
                columns,
            )?;
        }
        Ok(())
    }
}

fn cells(row: &Row, users: &mut Users) -> [String; 7] {
    const UNNAMED: &str = "unnamed";
    let container = row.about.container.as_deref();
    let library = row.library.as_ref().and_then(|path| path.file_name());
    [
        row.pid.to_string(),
        row.about.uid.map_or_else(unknown, |uid| users.name(uid)),
        row.about.age.map_or_else(unknown, age),
        container.map_or_else(String::new, |name| {
            clean(if name.is_empty() { UNNAMED } else { name }).into_owned()
        }),
        clean(&row.tokio).into_owned(),
        row.symbols.to_owned(),
        library.map_or_else(String::new, |file| {
            let file = file.to_string_lossy();
            // What follows names the processor and the interpreter.
            clean(file.split('.').next().unwrap_or(&file)).into_owned()
        }),
    ]
}

fn unknown() -> String {
    "-".to_owned()
}

fn line(
    out: &mut impl Write,
    cells: &[String; 7],
    widths: &[usize],
    last: &str,
    columns: Option<usize>,
) -> io::Result<()> {
    let mut text = String::new();
    for (column, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        match (width, column) {
            (0, _) => {}
            // Numbers stand on the right.
            (_, 0 | 2) => text += &format!("{cell:>width$}  "),
            _ => text += &format!("{cell:<width$}  "),
        }
    }
    text += last;
    match columns {
        Some(columns) => writeln!(out, "{}", beginning_of(&text, columns)),
        None => writeln!(out, "{text}"),
    }
}

/// `45s`, `12m`, `3h`, `5d`: whole units, rounded down.
fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Users' names, each looked up once.
#[derive(Debug, Default)]
struct Users(HashMap<u32, String>);

impl Users {
    fn name(&mut self, uid: u32) -> String {
        let look_up = || {
            let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            user.map_or_else(|| uid.to_string(), |user| clean(&user.name).into_owned())
        };
        self.0.entry(uid).or_insert_with(look_up).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: u32, command: &str, library: Option<&str>) -> Row {
        Row {
            pid,
            name: command
                .split(' ')
                .next()
                .unwrap()
                .rsplit('/')
                .next()
                .unwrap()
                .to_owned(),
            about: About {
                uid: Some(4_000_000),
                age: Some(Duration::from_secs(3_700)),
                container: None,
                command: command.split(' ').map(str::to_owned).collect(),
            },
            tokio: "1.54.1".to_owned(),
            symbols: "stripped",
            library: library.map(PathBuf::from),
            starts: Vec::new(),
        }
    }

    fn text(rows: Vec<Row>, columns: Option<usize>) -> String {
        let mut out = Vec::new();
        Listing(rows).write(&mut out, columns).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_without_a_word_are_left_out() {
        let text = text(vec![row(7, "/srv/api --port 80", None)], None);
        assert_eq!(
            text,
            "PID  USER     AGE  TOKIO   SYMBOLS   COMMAND\n\
             \x20 7  4000000   1h  1.54.1  stripped  /srv/api --port 80\n"
        );
    }

    #[test]
    fn a_terminal_keeps_the_beginning_of_a_command() {
        let mut master = row(
            7,
            "/venv/bin/python3 /venv/bin/granian --interface asgi app:app",
            Some("/x/_granian.cpython.so"),
        );
        master.starts = vec![8, 9];
        let text = text(vec![master], Some(80));
        let line = text.lines().nth(1).unwrap();
        assert!(
            line.contains("_granian  (parent of 8, 9) python3 gran"),
            "{line}"
        );
        assert!(line.width() <= 80 && line.ends_with('…'), "{line}");
    }

    #[test]
    fn a_hostile_command_line_is_made_safe() {
        let text = text(vec![row(7, "a\x1b[2J\nb", None)], None);
        assert!(
            !text.contains('\x1b') && text.lines().count() == 2,
            "{text}"
        );
    }

    #[test]
    fn ages_have_one_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (7_199, "1h"),
            (90_000, "1d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
