//! Something that is wrong with a loop as a whole.

use std::io::{self, Write};

use super::{WallClock, style, width::Width};
use crate::{
    model::{Finding, FoundPoll},
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
    writeln!(out, "    fix: {}", width.wrap(&clean(&finding.advice), 9))
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
