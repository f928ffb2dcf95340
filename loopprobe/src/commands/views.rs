use std::{io::BufWriter, path::Path};

use super::output_file::OutputFile;
use crate::{
    cli::{RecordArg, ViewArgs},
    recording::Recorder,
    report::{AtEnd, Drawing, Flamegraph, Folded, Html, Pprof, Sink, Speedscope, Timeline},
};

/// Opens a file for every view that was asked for, so that a path that cannot be written is known before the session.
///
/// # Errors
///
/// If a file cannot be created.
pub fn open(args: &ViewArgs) -> anyhow::Result<Vec<Box<dyn Sink>>> {
    let mut drawings = AtEnd::default();
    let flamegraph = Flamegraph {
        all_polls: args.all_polls,
    };
    add(&mut drawings, flamegraph, args.flamegraph.as_deref())?;
    add(&mut drawings, Speedscope, args.speedscope.as_deref())?;
    add(&mut drawings, Pprof, args.pprof.as_deref())?;
    add(&mut drawings, Folded, args.folded.as_deref())?;
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if !drawings.is_empty() {
        sinks.push(Box::new(drawings));
    }
    if let Some(path) = &args.timeline {
        sinks.push(Box::new(Timeline::new(create(path)?)));
    }
    if let Some(path) = &args.html {
        sinks.push(Box::new(Html::new(create(path)?)));
    }
    Ok(sinks)
}

/// Begins the recording that was asked for.
///
/// # Errors
///
/// If the file exists already, or cannot be written.
pub fn record(args: &RecordArg) -> anyhow::Result<Vec<Box<dyn Sink>>> {
    let Some(path) = &args.record else {
        return Ok(Vec::new());
    };
    let recorder = Recorder::new(OutputFile::create_new(path)?)?;
    Ok(vec![Box::new(recorder)])
}

fn add(
    drawings: &mut AtEnd,
    drawing: impl Drawing + 'static,
    path: Option<&Path>,
) -> anyhow::Result<()> {
    if let Some(path) = path {
        drawings.add(drawing, create(path)?);
    }
    Ok(())
}

fn create(path: &Path) -> anyhow::Result<BufWriter<OutputFile>> {
    Ok(BufWriter::new(OutputFile::create(path)?))
}
