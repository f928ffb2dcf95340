//! Opens a file for each view before the session, and refuses two outputs to one file.

use std::{
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::bail;

use super::{
    failure::WrongUsage,
    output_file::{OutputFile, STDOUT},
};
use crate::{
    cli::{OutputArgs, RecordArg, ViewArgs},
    model::Sink,
    recording::Recorder,
    report::{AtEnd, Drawing, Flamegraph, Folded, Html, Pprof, Speedscope, Timeline},
};

/// Opens a file for every view that was asked for, so that a path that cannot be written is known
/// before the session.
///
/// # Errors
///
/// If a file cannot be created.
pub(super) fn open(args: &ViewArgs) -> anyhow::Result<Vec<Box<dyn Sink>>> {
    let mut drawings = AtEnd::default();
    let flamegraph = Flamegraph {
        all_polls: args.all_polls,
        hide_runtime: args.hide_runtime,
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

/// Refuses two outputs to one file, which would leave neither readable. `-` and no `--output` at
/// all are standard output.
///
/// # Errors
///
/// A sentence that names both options.
pub(super) fn refuse_same_file(
    report: Option<&OutputArgs>,
    views: &ViewArgs,
    record: Option<&Path>,
    junit: Option<&Path>,
) -> anyhow::Result<()> {
    let report = report.map(|args| match &args.output {
        Some(path) => ("--output", path.as_path()),
        None => ("the report", Path::new(STDOUT)),
    });
    let record = record.map(|path| ("the recording", path));
    let junit = junit.map(|path| ("--junit", path));
    let others = record.into_iter().chain(junit);
    let mut known: Vec<(&str, PathBuf)> = Vec::new();
    for (option, path) in report.into_iter().chain(views.files()).chain(others) {
        let place = if path == Path::new(STDOUT) {
            path.to_owned()
        } else {
            std::path::absolute(path)?
        };
        let place = place.canonicalize().unwrap_or(place);
        if let Some((other, _)) = known.iter().find(|(_, known)| *known == place) {
            let place = match path.to_str() {
                Some(STDOUT) => "standard output".to_owned(),
                _ => path.display().to_string(),
            };
            bail!(WrongUsage(format!(
                "{other} and {option} would both write to {place}: name another file"
            )));
        }
        known.push((option, place));
    }
    Ok(())
}

/// Begins the recording that was asked for.
///
/// # Errors
///
/// If the file exists already, or cannot be written.
pub(super) fn record(args: &RecordArg) -> anyhow::Result<Vec<Box<dyn Sink>>> {
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        views: ViewArgs,
        #[command(flatten)]
        record: RecordArg,
    }

    fn refusal(args: &[&str]) -> Option<String> {
        let typed = Typed::parse_from([&["x"], args].concat());
        let record = typed.record.record.as_deref();
        let checked = refuse_same_file(Some(&typed.output), &typed.views, record, None);
        checked.err().map(|error| error.to_string())
    }

    #[test]
    fn two_outputs_to_one_file_are_refused() {
        assert_eq!(refusal(&["--html", "a", "--folded", "b"]), None);
        let same = refusal(&["--html", "a", "--folded", "./a"]).unwrap();
        assert!(same.contains("--html and --folded"), "{same}");
        let report = refusal(&["--output", "a", "--pprof", "a"]).unwrap();
        assert!(report.contains("--output and --pprof"), "{report}");
        let recorded = refusal(&["--output", "a", "--record", "a"]).unwrap();
        assert!(
            recorded.contains("--output and the recording"),
            "{recorded}"
        );
    }

    #[test]
    fn standard_output_takes_one() {
        let both = refusal(&["--folded", "-"]).unwrap();
        assert!(both.contains("the report and --folded"), "{both}");
        assert!(both.contains("standard output"), "{both}");
        assert_eq!(refusal(&["--output", "a", "--folded", "-"]), None);
    }
}
