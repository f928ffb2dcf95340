//! Plays a recording back into any view, or compares two of them.

use std::{
    io::{self, BufWriter, IsTerminal as _, Write},
    path::Path,
};

use anyhow::bail;

use super::{
    output_file::OutputFile,
    progress::Progress,
    replay::{each_event, open, reading, replay},
    session_output::SessionOutput,
    views,
};
use crate::{
    cli::{Exit, Format, GlobalArgs, ReportArgs},
    model::Sink,
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
