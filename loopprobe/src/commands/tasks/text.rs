//! A census for people: counts by type, then each task with where it awaits what.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use super::{STATES, by_type};
use crate::{
    inventory::{At, Census, Task},
    model::TaskKind,
    report::{Count, clean, end_of},
    runtime::TaskState,
};

/// Counts by type first, then tasks.
pub(crate) fn write(
    heading: &str,
    census: &Census,
    limit: usize,
    columns: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}: {}", clean(heading), totals(census))?;
    for of_loop in &census.loops {
        let spawned = of_loop.spawned.map_or_else(String::new, |spawned| {
            format!(", {} spawned so far", Count(spawned))
        });
        let tasks = counted(of_loop.tasks, "task");
        writeln!(out, "  {}: {tasks}{spawned}", scheduler(of_loop.scheduler))?;
    }
    doubts(census, out)?;
    if census.tasks.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    write_types(census, columns, out)?;
    writeln!(out)?;
    write_tasks(census, limit, columns, out)
}

fn scheduler(word: &str) -> String {
    match word {
        "local" => "LocalSet".to_owned(),
        "unknown" => "a runtime whose scheduler could not be told".to_owned(),
        word => format!("{word} runtime"),
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        many => format!("{} {what}s", Count(many)),
    }
}

fn totals(census: &Census) -> String {
    let is_closure = |task: &&Task| census.types[task.kind].kind == TaskKind::Blocking;
    let closures = census.tasks.iter().filter(is_closure).count() as u64;
    let tasks = census.tasks.len() as u64 - closures;
    let mut text = counted(tasks, "live task");
    if closures > 0 {
        text += &format!(", {}", counted(closures, "blocking closure"));
    }
    text
}

fn doubts(census: &Census, out: &mut impl Write) -> io::Result<()> {
    if census.is_partial() {
        let unsure = counted(census.unsure, "task");
        let are = if census.unsure == 1 { "is" } else { "are" };
        writeln!(
            out,
            "  partial: {unsure} changed too fast to be told, and {are} missing"
        )?;
    }
    if census.unread > 0 {
        let mib = census.unread.div_ceil(1 << 20);
        writeln!(
            out,
            "  {mib} MiB of its memory were not looked at (swapped out or unmapped)"
        )?;
    }
    Ok(())
}

/// A mark behind a name that is only likely.
fn name(census: &Census, kind: usize, columns: usize) -> String {
    let own = &census.types[kind];
    let doubt = if own.certain { "" } else { " ?" };
    format!(
        "{}{doubt}",
        end_of(&clean(&own.name), columns - doubt.len())
    )
}

/// The kinds of types, each once, as the tasks come.
fn kinds(census: &Census) -> Vec<usize> {
    let mut seen = vec![false; census.types.len()];
    let kinds = census.tasks.iter().map(|task| task.kind);
    kinds
        .filter(|kind| !std::mem::replace(&mut seen[*kind], true))
        .collect()
}

fn write_types(census: &Census, columns: usize, out: &mut impl Write) -> io::Result<()> {
    // A hundred thousand tasks.
    const WIDTH: usize = 7;
    let counts = by_type(census);
    // States that no task is in have no column.
    let is_used = |state: &usize| counts.iter().any(|count| count[*state] > 0);
    let used: Vec<usize> = (0..STATES.len()).filter(is_used).collect();
    let mut head = format!("{:>WIDTH$}", "TASKS");
    let width = |state: &usize| STATES[*state].word().len().max(WIDTH);
    for state in &used {
        let (word, width) = (STATES[*state].word().to_uppercase(), width(state));
        head += &format!("  {word:>width$}");
    }
    writeln!(out, "{head}  TYPE")?;
    let left = columns.saturating_sub(head.len() + 2).max(20);
    for kind in kinds(census) {
        let all: u64 = counts[kind].iter().sum();
        write!(out, "{:>WIDTH$}", Count(all).to_string())?;
        for state in &used {
            let (count, width) = (Count(counts[kind][*state]).to_string(), width(state));
            write!(out, "  {count:>width$}")?;
        }
        writeln!(out, "  {}", name(census, kind, left))?;
    }
    Ok(())
}

fn write_tasks(
    census: &Census,
    limit: usize,
    columns: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    const ID: usize = 10;
    const STATE: usize = 9;
    const AWAIT: usize = 5;
    writeln!(
        out,
        "{:>ID$}  {:<STATE$}  {:>AWAIT$}  TYPE",
        "ID", "STATE", "AWAIT"
    )?;
    let left = columns.saturating_sub(ID + STATE + AWAIT + 6).max(20);
    let mut shown: HashMap<usize, usize> = HashMap::new();
    for task in &census.tasks {
        let shown = shown.entry(task.kind).or_default();
        *shown += 1;
        if limit > 0 && *shown > limit {
            continue;
        }
        let id = task.id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let state: TaskState = task.state;
        writeln!(
            out,
            "{id:>ID$}  {:<STATE$}  {:>AWAIT$}  {}",
            state.word(),
            place(task.at),
            name(census, task.kind, left)
        )?;
        write_chain(task, columns, out)?;
    }
    let hidden = shown.values().map(|shown| shown.saturating_sub(limit));
    let hidden: usize = if limit > 0 { hidden.sum() } else { 0 };
    if hidden > 0 {
        let more = counted(hidden as u64, "more task");
        writeln!(out, "{more} of these types; --limit 0 shows all")?;
    }
    Ok(())
}

/// Where a task waits, as short as that can be told.
fn place(at: At) -> String {
    match at {
        At::Beginning => "begin".to_owned(),
        At::Await(number) => format!("#{number}"),
        At::Unknown => "-".to_owned(),
    }
}

/// Where a task awaits what, a line for each await.
fn write_chain(task: &Task, columns: usize, out: &mut impl Write) -> io::Result<()> {
    const INDENT: &str = "            ";
    let Some(chain) = &task.chain else {
        return Ok(());
    };
    for (index, point) in chain.iter().enumerate() {
        let Some(place) = &point.location else {
            continue;
        };
        let place = end_of(&clean(&place.to_string()), columns / 2);
        let awaited = chain.get(index + 1).map_or("", |next| &next.function);
        let left = columns
            .saturating_sub(INDENT.len() + place.len() + 8)
            .max(10);
        let awaited = end_of(&clean(awaited), left);
        writeln!(out, "{INDENT}{place} awaits {awaited}")?;
    }
    Ok(())
}
