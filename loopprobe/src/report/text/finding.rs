//! Something that is wrong with a loop as a whole.

use std::io::{self, Write};

use super::{WallClock, style, width::Width};
use crate::{
    model::{Evidence, Finding, FoundPoll, ThreadState},
    report::{Measured, clean, words},
};

pub(super) fn block(
    out: &mut impl Write,
    finding: &Finding,
    clock: WallClock,
    width: Width,
) -> io::Result<()> {
    let time = clock.time_of_day(finding.time_ns);
    let what = width.wrap(&words::finding(finding), 4);
    writeln!(
        out,
        "{time}  {}FINDING{1:#}  {what}",
        style::NOTE,
        style::NOTE
    )?;
    for poll in &finding.evidence.polls {
        writeln!(out, "    {}", width.wrap(&thread(poll), 8))?;
    }
    for line in stuck(&finding.evidence) {
        writeln!(out, "    {}", width.wrap(&line, 8))?;
    }
    for thread in &finding.evidence.threads {
        writeln!(out, "    {}", width.wrap(&closure(thread), 8))?;
    }
    writeln!(out, "    fix: {}", width.wrap(&clean(&finding.advice), 9))
}

/// Which tasks, and where they wait.
fn stuck(evidence: &Evidence) -> Vec<String> {
    if evidence.task_ids.is_empty() {
        return Vec::new();
    }
    let ids: Vec<_> = evidence.task_ids.iter().map(u64::to_string).collect();
    let more = match evidence.tasks.unwrap_or_default() > ids.len() as u64 {
        true => ", ...",
        false => "",
    };
    let tasks = format!("ids {}{more}", ids.join(", "));
    let awaits = evidence.awaits.iter().map(|point| {
        let number = point.number.map_or_else(String::new, |n| format!(" #{n}"));
        let place = point.location.as_ref();
        let place = place.map_or_else(String::new, |place| format!(" at {}", words::place(place)));
        format!("await{number} of {}{place}", clean(&point.function))
    });
    std::iter::once(tasks).chain(awaits).collect()
}

/// What a thread with a closure does.
fn closure(state: &ThreadState) -> String {
    let thread = format!("thread {}/{}: ", clean(&state.thread), state.tid);
    let waits = [&state.syscall, &state.object].into_iter().flatten();
    let waits: Vec<_> = waits.map(|word| clean(word).into_owned()).collect();
    let call = state.call.as_ref();
    let call = call.map_or_else(String::new, |call| format!(" in {}", clean(call)));
    match waits.is_empty() {
        true => format!("{thread}waits{call}"),
        false => format!("{thread}waits{call} ({})", waits.join(", ")),
    }
}

/// What one thread does.
fn thread(poll: &FoundPoll) -> String {
    let cause = poll.cause.map_or("a long poll", words::cause);
    let mut text = format!(
        "thread {}/{}: {} {cause}",
        clean(&poll.thread),
        poll.tid,
        Measured(poll.duration_ns)
    );
    if let Some(call) = &poll.call {
        text += &format!(" in {}", clean(call));
    }
    let id = poll.task_id.map_or_else(String::new, |id| format!(" {id}"));
    text += &format!(", task{id} {}", clean(&poll.task));
    text
}
