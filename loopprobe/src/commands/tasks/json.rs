//! A census as one JSON object, in the form that `docs/tasks.md` describes.

use std::io::{self, Write};

use serde::Serialize;

use super::{STATES, by_type};
use crate::{
    inventory::{At, Census, Task},
    model::{SourceLocation, TaskKind, TaskType},
    runtime::TaskState,
};

#[derive(Serialize)]
struct Report<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: u32,
    pid: u32,
    partial: bool,
    unsure: u64,
    unread_bytes: u64,
    loops: Vec<LoopReport>,
    types: Vec<TypeReport<'a>>,
    tasks: Vec<TaskReport<'a>>,
}

#[derive(Serialize)]
struct LoopReport {
    scheduler: &'static str,
    tasks: u64,
    spawned: Option<u64>,
}

#[derive(Serialize)]
struct TypeReport<'a> {
    #[serde(flatten)]
    task: &'a TaskType,
    tasks: u64,
    running: u64,
    scheduled: u64,
    idle: u64,
    complete: u64,
    queued: u64,
}

#[derive(Serialize)]
struct TaskReport<'a> {
    id: Option<u64>,
    name: &'a str,
    certain: bool,
    kind: TaskKind,
    state: TaskState,
    #[serde(rename = "await")]
    awaits: Option<Vec<AwaitReport<'a>>>,
    idle_ns: Option<u64>,
    no_waker: bool,
    #[serde(rename = "loop")]
    of_loop: Option<usize>,
}

#[derive(Serialize)]
struct AwaitReport<'a> {
    function: &'a str,
    #[serde(flatten)]
    location: Option<&'a SourceLocation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
}

/// The chain of awaits, as far as it is known; empty before the first poll.
fn awaits<'a>(task: &'a Task, name: &'a str) -> Option<Vec<AwaitReport<'a>>> {
    let number = match task.at {
        At::Await(number) => Some(number),
        At::Beginning => return Some(Vec::new()),
        At::Unknown => None,
    };
    let report = |function, location, number| AwaitReport {
        function,
        location,
        number,
    };
    let Some(chain) = &task.chain else {
        return Some(vec![report(name, None, Some(number?))]);
    };
    let points = chain.iter().enumerate().map(|(index, point)| {
        let number = number.filter(|_| index == 0);
        report(&point.function, point.location.as_ref(), number)
    });
    Some(points.collect())
}

/// The types that have live tasks, those with the most first.
fn types(census: &Census) -> Vec<TypeReport<'_>> {
    let counts = by_type(census);
    let types = census.types.iter().zip(&counts);
    let types = types.filter(|(_, count)| count.iter().any(|count| *count > 0));
    let mut types: Vec<_> = types
        .map(
            |(task, [running, scheduled, idle, complete, queued])| TypeReport {
                task,
                tasks: running + scheduled + idle + complete + queued,
                running: *running,
                scheduled: *scheduled,
                idle: *idle,
                complete: *complete,
                queued: *queued,
            },
        )
        .collect();
    types.sort_by(|a, b| {
        b.tasks
            .cmp(&a.tasks)
            .then_with(|| a.task.name.cmp(&b.task.name))
    });
    types
}

/// Writes one object and a newline.
pub(crate) fn write(pid: u32, census: &Census, out: &mut impl Write) -> io::Result<()> {
    let loops = census.loops.iter().map(|of_loop| LoopReport {
        scheduler: of_loop.scheduler,
        tasks: of_loop.tasks,
        spawned: of_loop.spawned,
    });
    let tasks = census.tasks.iter().map(|task| {
        let own = &census.types[task.kind];
        TaskReport {
            id: task.id,
            name: &own.name,
            certain: own.certain,
            kind: own.kind,
            state: task.state,
            awaits: awaits(task, &own.name),
            idle_ns: None,
            no_waker: task.no_waker,
            of_loop: task.of_loop,
        }
    });
    debug_assert_eq!(STATES[4], TaskState::Queued);
    let report = Report {
        kind: "tasks",
        schema: 1,
        pid,
        partial: census.is_partial(),
        unsure: census.unsure,
        unread_bytes: census.unread,
        loops: loops.collect(),
        types: types(census),
        tasks: tasks.collect(),
    };
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)
}
