//! What each thread did, with its stack: for a snapshot.

use std::io::{self, Write};

use super::{fold::fold, no_polls::did, stack, width::Width};
use crate::{
    model::{Session, ThreadState},
    report::clean,
};

/// Writes a line and a stack for each thread. Where `session` is known it tells whose code is
/// whose.
///
/// # Errors
///
/// Whatever writing gives.
pub fn write_threads(
    out: &mut impl Write,
    threads: &[ThreadState],
    session: Option<&Session>,
    columns: Option<usize>,
) -> io::Result<()> {
    let width = Width::new(columns);
    for thread in threads {
        let did = did(thread).unwrap_or_else(|| {
            "could not be looked at: its stack was not followed to the thread's first function"
                .to_owned()
        });
        let line = format!("{}/{} {did}", clean(&thread.thread), thread.tid);
        writeln!(out, "  {}", width.wrap(&line, 6))?;
        let rows = fold(&thread.frames, thread.call.as_deref(), session);
        stack::write(out, &rows, width)?;
    }
    if threads.is_empty() {
        writeln!(
            out,
            "  unknown: the process has ended, or its threads could not be looked at"
        )?;
    }
    Ok(())
}
