//! `loopprobe inspect`: what discovery finds in a file, or in all files of a process.

mod files;
mod report;
mod text;
mod watch;

use std::io::{self, Write as _};

use anyhow::bail;

use self::{files::Inspected, report::Report};
use super::progress::{Progress, SCANNING};
use crate::cli::{Exit, Format, GlobalArgs, InspectArgs};

/// Inspects and prints.
///
/// # Errors
/// When nothing of Tokio was found, with the reason and what to do next; when a debug file belongs
/// to none of the files.
pub(super) fn run(args: &InspectArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let progress = Progress::new(global, SCANNING);
    let Inspected { files, remarks, .. } = files::inspect(args, global.cache())?;
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
