//! Plays a recording back, event by event.

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use anyhow::Context as _;

use super::progress::Progress;
use crate::{
    cli::GlobalArgs,
    model::{Event, Notice},
    recording::{Ending, Reader},
};

pub(super) type Recording = Reader<BufReader<File>>;

/// Opens a recording.
///
/// # Errors
///
/// A sentence that names the file if it is no recording, or cannot be read.
pub(super) fn open(path: &Path) -> anyhow::Result<Recording> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    Reader::new(BufReader::new(file)).map_err(|error| describe(path, error))
}

pub(super) fn reading(path: &Path) -> String {
    format!("reading {}", path.display())
}

fn describe(path: &Path, error: crate::recording::RecordingError) -> anyhow::Error {
    use crate::recording::RecordingError;
    let shown = path.display();
    match error {
        RecordingError::Io(error) => {
            anyhow::Error::from(error).context(format!("cannot read {shown}"))
        }
        error => anyhow::anyhow!("{shown} {error}"),
    }
}

/// Gives every event of a recording to `take`; one that was cut off gets a summary of what it
/// holds, and says so.
pub(super) fn replay(
    recording: &mut Recording,
    path: &Path,
    progress: Progress,
    take: &mut dyn FnMut(&Event) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut progress = Some(progress);
    let mut ending = Ending::default();
    let mut last_ns = 0;
    for event in recording.by_ref() {
        let event = event.map_err(|error| describe(path, error))?;
        progress.iter().for_each(Progress::step);
        if let Event::LongPoll(poll) = &event {
            last_ns = poll.start_ns.saturating_add(poll.duration_ns);
        }
        ending.event(&event);
        if matches!(event, Event::Summary(_)) {
            progress = None;
        }
        take(&event)?;
    }
    if let Some(tail) = recording.tail() {
        let message = format!(
            "{}: {} at byte {}; {} bytes from there on are left out",
            path.display(),
            tail.damage,
            tail.offset,
            tail.dropped
        );
        if ending.is_complete() {
            log::warn!("{message}");
        } else {
            take(&Event::Notice(Notice {
                time_ns: last_ns,
                message,
                threshold_ns: None,
                step: None,
            }))?;
        }
    }
    drop(progress);
    if let Some(summary) = ending.summary() {
        take(&Event::Summary(summary))?;
    }
    Ok(())
}

/// Gives every event of a recording to `take`.
///
/// # Errors
///
/// A sentence that names the file if it is no recording, or cannot be read.
pub(super) fn each_event(
    path: &Path,
    global: &GlobalArgs,
    take: &mut dyn FnMut(&Event),
) -> anyhow::Result<()> {
    let progress = Progress::new(global, reading(path));
    replay(&mut open(path)?, path, progress, &mut |event| {
        take(event);
        Ok(())
    })
}
