//! `loopprobe inspect`: what discovery finds in a file, or in all files of a process.

mod files;
mod report;
mod text;

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::bail;
use clap::Args;

use self::{files::Inspected, report::Report};
use super::progress::{Progress, SCANNING};
use crate::cli::{Exit, Format, GlobalArgs};

/// What was typed for `inspect`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  loopprobe inspect ./my-server                         task types of a program; no root needed
  loopprobe inspect ./my-server --debug-file my-server.debug
  sudo loopprobe inspect --pid 1234 --json              all files of a process, one JSON object")]
pub struct InspectArgs {
    /// The program or shared object
    #[arg(required_unless_present = "pid", conflicts_with = "pid")]
    path: Option<PathBuf>,
    /// All executable files that a process has mapped
    #[arg(long, short, value_name = "PID")]
    pid: Option<u32>,
    /// Print one JSON object (docs/inspect.md has its schema)
    #[arg(long)]
    json: bool,
    /// Print as text or json
    #[arg(long, value_enum, default_value = "text", hide = true)]
    format: Format,
    /// A separate debug file or unstripped copy; may be repeated
    #[arg(long, value_name = "FILE")]
    debug_file: Vec<PathBuf>,
}

/// Inspects and prints.
///
/// # Errors
/// When nothing of Tokio was found, with the reason and what to do next; when a debug file belongs to none of the files.
pub(super) fn run(args: &InspectArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let progress = Progress::new(global, SCANNING);
    let Inspected { files, remarks } =
        files::inspect(args.path.as_deref(), args.pid, &args.debug_file)?;
    drop(progress);
    if files.is_empty() {
        bail!("{}", remarks.join("\n"));
    }
    let report = Report { files };
    let mut out = io::stdout().lock();
    if args.json || args.format == Format::Json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        text::write(&report, &mut out)?;
    }
    for remark in remarks {
        log::info!("{remark}");
    }
    Ok(Exit::Done)
}
