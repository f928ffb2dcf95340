//! `loopprobe tasks`: every live task of a process.

pub(super) mod json;
mod order;
pub(super) mod text;

use std::{
    io::{BufWriter, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use wildmatch::WildMatch;

use super::{columns::columns_of, progress::Progress, target};
use crate::{
    cli::{Exit, GlobalArgs, TasksArgs},
    collect::debug_files::GivenDebugFiles,
    inventory::{Census, Inventory},
    process,
    runtime::RUNTIMES,
};

/// How wide text is where it goes to no terminal.
const COLUMNS: usize = 80;

/// Lists the tasks.
///
/// # Errors
/// When the process cannot be read, or has no tasks that could be listed.
pub(super) fn run(args: &TasksArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let pid = target::pid(&args.target)?;
    let mut debug_files = GivenDebugFiles::new(&args.debug_file);
    let progress = Progress::new(global, format!("reading the files of process {pid}"));
    let mut debug_file = |image: &_| debug_files.of(image);
    let mut inventory = Inventory::of(RUNTIMES, pid, global.cache(), &mut debug_file)?;
    drop(progress);
    if let Some((path, problem)) = debug_files.useless() {
        return Err(problem)
            .with_context(|| format!("--debug-file {} is of no use", path.display()));
    }
    for remark in &inventory.remarks {
        log::info!("{remark}");
    }
    let Some(interval) = args.watch else {
        list(pid, &mut inventory, args, global)?;
        return Ok(Exit::Done);
    };
    loop {
        let begun = Instant::now();
        if std::io::stdout().is_terminal() && !args.json {
            // A screen of its own would take the last list away at the end.
            anstream::print!("\x1b[2J\x1b[H");
        }
        list(pid, &mut inventory, args, global)?;
        std::thread::sleep(pause(interval, begun.elapsed()));
    }
}

/// At least as long as the last look took, whatever the interval: it is the target's memory that is
/// read.
fn pause(interval: Duration, took: Duration) -> Duration {
    interval.saturating_sub(took).max(took)
}

fn list(
    pid: u32,
    inventory: &mut Inventory,
    args: &TasksArgs,
    global: &GlobalArgs,
) -> anyhow::Result<()> {
    let progress = Progress::new(global, format!("reading the memory of process {pid}"));
    let mut census = inventory.take()?;
    drop(progress);
    if let Some(pattern) = &args.of_type {
        let pattern = WildMatch::new(pattern);
        census.retain(|task| {
            let full_name = task.full_name.as_ref();
            pattern.matches(&task.name) || full_name.is_some_and(|name| pattern.matches(name))
        });
    }
    order::sort(&mut census, args.sort);
    let mut out = BufWriter::new(anstream::stdout());
    if args.json {
        json::write(pid, &census, &mut out)?;
    } else {
        let columns = columns_of(&std::io::stdout()).unwrap_or(COLUMNS);
        text::write(&heading(pid), &census, args.limit, columns, &mut out)?;
    }
    out.flush()?;
    Ok(())
}

fn heading(pid: u32) -> String {
    match process::name(pid) {
        Ok(name) => format!("{name} (pid {pid})"),
        Err(_) => format!("pid {pid}"),
    }
}

/// How many tasks of each state a group has, in the order of [`STATES`].
type ByState = [u64; STATES.len()];

const STATES: [crate::runtime::TaskState; 5] = {
    use crate::runtime::TaskState::{Complete, Idle, Queued, Running, Scheduled};
    [Running, Scheduled, Idle, Complete, Queued]
};

/// By type, how many tasks of each state there are.
fn by_type(census: &Census) -> Vec<ByState> {
    let mut counts = vec![ByState::default(); census.types.len()];
    for task in &census.tasks {
        if let Some(state) = STATES.iter().position(|state| *state == task.state) {
            counts[task.kind][state] += 1;
        }
    }
    counts
}
