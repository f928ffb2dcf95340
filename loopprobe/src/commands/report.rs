//! Plays a recording back into any view, or compares two of them.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, IsTerminal as _, Write},
    path::Path,
};

use anyhow::{Context as _, bail};

use super::{output_file::OutputFile, progress::Progress, session_output::SessionOutput, views};
use crate::{
    cli::{Exit, Format, GlobalArgs, ReportArgs},
    model::{Event, Notice, Sink},
    recording::{Ending, Reader},
    report::{Diff, Side},
};

pub(super) fn run(args: &ReportArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    if let Some([before, after]) = args.diff.as_deref() {
        return diff(before, after, args, global);
    }
    let Some(file) = &args.file else {
        bail!("name a recording");
    };
    views::refuse_same_file(Some(&args.output), &args.views, None, None)?;
    let mut recording = open(file)?;
    let mut output = SessionOutput::for_recording(&args.output, global)?;
    output.add(views::open(&args.views)?);
    let mut failed = None;
    // A report on the terminal is progress enough.
    let on_terminal = args.output.output.is_none() && io::stdout().is_terminal();
    let progress = Progress::shown_if(!global.quiet && !on_terminal, reading(file));
    replay(&mut recording, file, progress, &mut |event| {
        match output.event(event) {
            Err(error) if output.is_closed() => return Err(error),
            Err(error) => failed = failed.take().or(Some(error)),
            Ok(()) => {}
        }
        Ok(())
    })?;
    failed.map_or(Ok(Exit::Done), |error| Err(error.into()))
}

type Recording = Reader<BufReader<File>>;

fn open(path: &Path) -> anyhow::Result<Recording> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    Reader::new(BufReader::new(file)).map_err(|error| describe(path, error))
}

fn reading(path: &Path) -> String {
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

/// Gives every event of a recording to `take`; one that was cut off gets a summary of what it holds, and says so.
fn replay(
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
            }))?;
        }
    }
    drop(progress);
    if let Some(summary) = ending.summary() {
        take(&Event::Summary(summary))?;
    }
    Ok(())
}

fn diff(
    before: &Path,
    after: &Path,
    args: &ReportArgs,
    global: &GlobalArgs,
) -> anyhow::Result<Exit> {
    let views = &args.views;
    let others = [
        &views.html,
        &views.timeline,
        &views.speedscope,
        &views.pprof,
        &views.folded,
    ];
    if others.iter().any(|view| view.is_some()) {
        bail!("--diff goes with --flamegraph and --format only");
    }
    let picture = views.flamegraph.as_deref().map(OutputFile::create);
    let mut picture = picture.transpose()?.map(BufWriter::new);
    let diff = Diff::new(side(before, global)?, side(after, global)?);
    let mut out: Box<dyn Write> = match &args.output.output {
        Some(path) => Box::new(BufWriter::new(OutputFile::create(path)?)),
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    match args.output.format {
        Format::Text => diff.write_text(&mut out)?,
        Format::Json => diff.write_json(&mut out)?,
    }
    out.flush()?;
    if let Some(picture) = &mut picture {
        diff.flamegraph(picture)?;
        picture.flush()?;
    }
    Ok(Exit::Done)
}

fn side(path: &Path, global: &GlobalArgs) -> anyhow::Result<Side> {
    let mut side = Side::default();
    each_event(path, global, &mut |event| side.event(event))?;
    Ok(side)
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
