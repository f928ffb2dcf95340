use std::io::{self, Write};

use super::{
    stack,
    style::{ALARM, FAINT, FIX, TASK},
};
use crate::{
    model::{Diagnosis, LongPoll, Split, Stack, TaskKind},
    report::{Measured, WallClock, clean, words},
};

/// Stacks that took less of a poll than this part are left to the JSON.
const SHOWN_SHARE: u64 = 10;
/// More stacks than this make a block that nobody reads.
const SHOWN_STACKS: usize = 3;

/// One block: when, how long, which task, where the time went, in which call, and what to do.
pub fn write(out: &mut impl Write, poll: &LongPoll, clock: WallClock) -> io::Result<()> {
    headline(out, poll, clock)?;
    explanation(out, poll)?;
    let shown = merged(&poll.stacks)
        .into_iter()
        .filter(|(_, ns)| *ns >= poll.duration_ns / SHOWN_SHARE);
    for (stack, ns) in shown.take(SHOWN_STACKS) {
        stack::write(out, stack, ns)?;
    }
    if let Some(diagnosis) = &poll.diagnosis {
        advice(out, diagnosis)?;
    }
    Ok(())
}

/// Stacks that would look alike, as one with the sum of their times, longest first: samples differ in the last instruction.
fn merged(stacks: &[Stack]) -> Vec<(&Stack, u64)> {
    let mut merged: Vec<(&Stack, u64)> = Vec::new();
    for stack in stacks {
        match merged
            .iter_mut()
            .find(|(other, _)| stack::looks_like(stack, other))
        {
            Some((_, ns)) => *ns += stack.ns,
            None => merged.push((stack, stack.ns)),
        }
    }
    merged.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    merged
}

fn headline(out: &mut impl Write, poll: &LongPoll, clock: WallClock) -> io::Result<()> {
    let time = clock.time_of_day(poll.start_ns);
    let duration = Measured(poll.duration_ns);
    let what = match (poll.ended, poll.since_before_attach) {
        (true, false) => format!("LONG POLL  {duration}"),
        (true, true) => format!("LONG POLL  at least {duration}, begun before the attach"),
        (false, false) => format!("STILL POLLING for {duration}"),
        (false, true) => {
            format!("STILL POLLING for at least {duration}, open since before the attach")
        }
    };
    write!(out, "{time}  {ALARM}{what}{ALARM:#}")?;
    match (poll.task_id, poll.task.kind) {
        (Some(id), _) => write!(out, "  task {id}")?,
        (None, TaskKind::Root) => write!(out, "  root future")?,
        (None, TaskKind::Async | TaskKind::Blocking) => {}
    }
    write!(out, "  {TASK}{}{TASK:#}", words::task_name(&poll.task))?;
    if let Some(location) = &poll.task.location {
        write!(out, "  {}", words::place(location))?;
    }
    write!(
        out,
        "  {FAINT}thread {}/{}{FAINT:#}",
        clean(&poll.thread),
        poll.tid
    )?;
    if poll.block_in_place {
        write!(out, "  (in block_in_place: allowed to block)")?;
    }
    writeln!(out)
}

/// `file I/O in api::store src/upload.rs:57: 811.9ms blocked, 0.3ms on CPU  (path /var/data/big.bin, syscall read)`.
fn explanation(out: &mut impl Write, poll: &LongPoll) -> io::Result<()> {
    let parts: Vec<String> = [
        poll.diagnosis.as_ref().map(cause),
        poll.split.map(split),
        poll.diagnosis.as_ref().and_then(evidence),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        return Ok(());
    }
    writeln!(out, "    {}", parts.join("; "))
}

fn cause(diagnosis: &Diagnosis) -> String {
    let cause = words::cause(diagnosis.cause);
    let Some(call) = &diagnosis.call else {
        return cause.to_owned();
    };
    let function = clean(&call.function);
    match &call.location {
        Some(location) => format!("{cause} in {function} ({})", words::place(location)),
        None => format!("{cause} in {function}"),
    }
}

fn split(split: Split) -> String {
    let parts = [
        (split.blocked_ns, "blocked"),
        (split.on_cpu_ns, "on CPU"),
        (split.runnable_ns, "waiting for a CPU"),
    ];
    let words: Vec<String> = parts
        .into_iter()
        .filter(|(ns, _)| *ns > 0)
        .map(|(ns, word)| format!("{} {word}", Measured(ns)))
        .collect();
    words.join(", ")
}

fn evidence(diagnosis: &Diagnosis) -> Option<String> {
    /// Said already: in the split, and by the first frame of the stack.
    const SHOWN_ELSEWHERE: [&str; 2] = ["ns", "function"];
    let facts: Vec<String> = diagnosis
        .evidence
        .iter()
        .filter(|(name, _)| !SHOWN_ELSEWHERE.contains(&name.as_str()))
        .map(|(name, value)| format!("{} {}", clean(&name.replace('_', " ")), clean(value)))
        .collect();
    (!facts.is_empty()).then(|| facts.join(", "))
}

fn advice(out: &mut impl Write, diagnosis: &Diagnosis) -> io::Result<()> {
    if let Some(innermost) = &diagnosis.innermost {
        write!(out, "    awaited: {}", clean(&innermost.function))?;
        if let Some(location) = &innermost.location {
            write!(out, "  {}", words::place(location))?;
        }
        writeln!(out)?;
    }
    if diagnosis.advice.is_empty() {
        return Ok(());
    }
    writeln!(out, "    {FIX}fix:{FIX:#} {}", clean(&diagnosis.advice))
}
