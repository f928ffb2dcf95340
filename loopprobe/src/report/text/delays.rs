//! How long tasks waited for their polls, in the summary.

use std::io::{self, Write};

use crate::{model::Summary, report::words};

pub(super) fn write(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let Some(delays) = &summary.wake_to_poll else {
        return Ok(());
    };
    write!(out, "{}", words::wake_to_poll(delays))?;
    let of_types = summary.tasks.iter().filter_map(|row| {
        let delays = row.wake_to_poll.as_ref()?;
        Some((delays.max_ns, &row.task))
    });
    match of_types.max_by_key(|(max_ns, _)| *max_ns) {
        Some((_, task)) => writeln!(out, ", the longest of {}", words::task_name(task)),
        None => writeln!(out),
    }
}
