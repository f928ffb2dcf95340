//! The forms of a snapshot: text, one JSON object, a page.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{
    super::tasks,
    Snapshot,
    system::{Line, Lock},
};
use crate::{
    model::{Event, Sink},
    report::{Html, TextOptions, TextSink, clean, rfc3339, write_threads},
};

/// Tasks shown of each type.
const TASKS: usize = 10;

/// For people. A threshold's first poll of a kind is shown whole, as `attach` does.
pub(super) fn text(snapshot: &Snapshot, columns: usize, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "snapshot of {} (pid {}) at {}",
        clean(&snapshot.name),
        snapshot.pid,
        time(snapshot)
    )?;
    writeln!(out, "command: {}", clean(&snapshot.command.join(" ")))?;
    if let Some(why) = &snapshot.why {
        writeln!(out, "taken because {}", clean(why))?;
    }
    heading(out, "Polls")?;
    let options = TextOptions {
        columns: Some(columns),
        ..TextOptions::default()
    };
    let mut session = TextSink::new(&mut *out, options);
    for event in &snapshot.events {
        session.event(event)?;
    }
    if snapshot.dropped > 0 {
        writeln!(out, "not kept: {} more events", snapshot.dropped)?;
    }
    the_rest(snapshot, columns, out)
}

/// All that a session does not have.
fn the_rest(snapshot: &Snapshot, columns: usize, out: &mut impl Write) -> io::Result<()> {
    let at = |what: &str, end: &str| match snapshot.why {
        Some(_) => what.to_owned(),
        None => format!("{what} at the {end}"),
    };
    heading(out, &at("Threads", "end"))?;
    let threads = snapshot
        .summary()
        .map_or(&[][..], |summary| &summary.threads);
    write_threads(out, threads, snapshot.session(), Some(columns))?;
    heading(out, &at("Tasks", "beginning"))?;
    match &snapshot.tasks {
        Ok(census) => tasks::text::write("all loops", census, TASKS, columns, out)?,
        Err(error) => writeln!(out, "unknown: {}", clean(error))?,
    }
    heading(out, &at("File locks", "beginning"))?;
    match snapshot.system.locks.as_deref() {
        None => writeln!(out, "/proc/locks cannot be read here")?,
        Some([]) => writeln!(out, "/proc/locks has none of this process")?,
        Some(locks) => locks.iter().try_for_each(|lock| write_lock(out, lock))?,
    }
    heading(out, &at("Control groups", "beginning"))?;
    write_lines(out, &snapshot.system.control_groups)?;
    heading(out, "Pressure on the whole machine")?;
    write_lines(out, &snapshot.system.pressure)
}

fn heading(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "\n== {text}")
}

fn write_lock(out: &mut impl Write, lock: &Lock) -> io::Result<()> {
    let path = lock
        .path
        .as_deref()
        .unwrap_or("no descriptor of this process shows which file");
    writeln!(out, "{}  ({})", clean(&lock.line), clean(path))
}

fn write_lines(out: &mut impl Write, lines: &[Line]) -> io::Result<()> {
    for line in lines {
        writeln!(out, "{}: {}", line.file, clean(&line.text))?;
    }
    if lines.is_empty() {
        writeln!(out, "not readable here")?;
    }
    Ok(())
}

/// One object: `docs/snapshot.md` has its schema.
pub(super) fn json(snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    let of_kind = |wanted: fn(&Event) -> bool| -> Vec<&Event> {
        snapshot
            .events
            .iter()
            .filter(|event| wanted(event))
            .collect()
    };
    let object = json!({
        "type": "snapshot",
        "schema": 1,
        "time": time(snapshot),
        "pid": snapshot.pid,
        "name": snapshot.name,
        "command": snapshot.command,
        "session": snapshot.session(),
        "events": of_kind(|event| !matches!(event, Event::Session(_) | Event::Summary(_))),
        "summary": snapshot.summary(),
        "dropped": snapshot.dropped,
        "tasks": census(snapshot)?,
        "why": snapshot.why,
        "tasks_unknown": snapshot.tasks.as_ref().err(),
        "system": &snapshot.system,
    });
    serde_json::to_writer(&mut *out, &object)?;
    writeln!(out)
}

/// As `loopprobe tasks --json` has it.
fn census(snapshot: &Snapshot) -> io::Result<Value> {
    let Ok(census) = &snapshot.tasks else {
        return Ok(Value::Null);
    };
    let mut bytes = Vec::new();
    tasks::json::write(snapshot.pid, census, &mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The session's page, and the rest as text at its end.
pub(super) fn html(snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    let mut page = Vec::new();
    let mut session = Html::new(&mut page);
    for event in &snapshot.events {
        session.event(event)?;
    }
    drop(session);
    let mut rest = anstream::StripStream::new(Vec::new());
    the_rest(snapshot, 120, &mut rest)?;
    let (before, after) = at_the_end(&page);
    out.write_all(before)?;
    let rest = rest.into_inner();
    let rest = String::from_utf8_lossy(&rest);
    writeln!(
        out,
        "<h2>Threads, tasks and the machine</h2>\n<pre>{}</pre>",
        escaped(&rest)
    )?;
    out.write_all(after)
}

/// A page, up to its end and from there on.
fn at_the_end(page: &[u8]) -> (&[u8], &[u8]) {
    const END: &[u8] = b"</body>";
    let end = page.windows(END.len()).rposition(|window| window == END);
    page.split_at(end.unwrap_or(page.len()))
}

fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

/// When it was taken, or was begun to be.
fn time(snapshot: &Snapshot) -> String {
    let begun = snapshot.session().map(|session| session.start_unix_ns);
    let taken = snapshot.taken_unix_ns.or(begun);
    taken.map_or_else(String::new, rfc3339)
}
