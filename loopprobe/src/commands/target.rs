//! Which process `--pid` or `--name` means.

use anyhow::bail;

use super::{
    columns::columns_of,
    listing::{Listing, Row},
    survey::Survey,
};
use crate::{cli::TargetArgs, process, report::clean, runtime::presence};

/// The process that is meant.
///
/// # Errors
///
/// A sentence for the user if no process is, or more than one may be.
pub(super) fn pid(args: &TargetArgs) -> anyhow::Result<u32> {
    match (args.pid, &args.name) {
        (Some(pid), _) => Ok(pid),
        (None, Some(name)) => by_name(name),
        (None, None) => bail!("name a process with --pid or --name"),
    }
}

/// The process of this name or, where none has it, with this text in its command line. Of several
/// the one that uses Tokio.
fn by_name(name: &str) -> anyhow::Result<u32> {
    let mut pids = process::by_name(name)?;
    let mut what = "are called";
    if pids.is_empty() {
        pids = process::by_command(name)?;
        what = "have in their command line";
    }
    match pids.as_slice() {
        [pid] => Ok(*pid),
        [] => bail!(
            "no process is called `{name}`, or has it in its command line; `loopprobe ps` lists those that use Tokio"
        ),
        many => only_one(many, &format!("{what} `{}`", clean(name))),
    }
}

fn only_one(pids: &[u32], what: &str) -> anyhow::Result<u32> {
    let mut survey = Survey::new(presence);
    let found = pids.iter().filter_map(|&pid| {
        let found = survey.process(pid).ok()?;
        let image = found.images.into_iter().next()?;
        Some(Row::new(pid, &image))
    });
    let rows: Vec<Row> = found.collect();
    if let [row] = rows.as_slice() {
        return Ok(row.pid);
    }
    if rows.is_empty() {
        bail!(
            "{} processes {what}, and none of them uses Tokio, as far as they can be read: {}",
            pids.len(),
            list(pids)
        );
    }
    let mut table = Vec::new();
    let count = rows.len();
    Listing::new(rows).write(&mut table, columns_of(&std::io::stderr()))?;
    bail!(
        "{count} processes that use Tokio {what}; choose one with --pid:\n{}",
        String::from_utf8_lossy(&table).trim_end()
    )
}

fn list(pids: &[u32]) -> String {
    const MOST: usize = 8;
    let shown: Vec<_> = pids.iter().take(MOST).map(u32::to_string).collect();
    let more = if pids.len() > MOST { ", ..." } else { "" };
    shown.join(", ") + more
}
