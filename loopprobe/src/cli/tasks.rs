//! Options for the list of live tasks: filter by type, order, limit, and how often to look.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{TargetArgs, parse_duration};

const EXAMPLES: &str = "\
Examples:
  sudo loopprobe tasks --pid 1234
  sudo loopprobe tasks --name api --type '*upload*' --sort id
  sudo loopprobe tasks --pid 1234 --watch 5s
  sudo loopprobe tasks --pid 1234 --json | jq '.types[] | {name, tasks}'

The process's memory is read while it runs: it is not stopped, and nothing is placed in it.";

/// What was typed for `tasks`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TasksArgs {
    /// Which process.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Print one JSON object (docs/tasks.md has its schema)
    #[arg(long)]
    pub json: bool,
    /// Only tasks of types that this matches; * stands for anything
    #[arg(long = "type", value_name = "PATTERN")]
    pub of_type: Option<String>,
    /// What comes first: the biggest groups, or by name, id or state
    #[arg(
        long,
        value_enum,
        default_value = "count",
        hide_possible_values = true,
        value_name = "count|name|id|state"
    )]
    pub sort: SortBy,
    /// Tasks shown of each type, in text; 0 for all
    #[arg(long, value_name = "N", default_value = "10")]
    pub limit: usize,
    /// Look again and again, until Ctrl-C
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = interval)]
    pub watch: Option<Duration>,
    /// A separate debug file or unstripped copy; may be repeated
    #[arg(long, value_name = "FILE")]
    pub debug_file: Vec<PathBuf>,
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    /// Types with the most tasks.
    Count,
    /// Types by name.
    Name,
    /// The oldest tasks: those with the smallest numbers.
    Id,
    /// Running, scheduled, idle, complete, queued.
    State,
}

/// Reading a process's memory over and over without a pause would cost it memory bandwidth.
fn interval(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_millis(100);
    let interval = parse_duration(text)?;
    if interval < SHORTEST {
        return Err("the shortest interval is 100ms".to_owned());
    }
    Ok(interval)
}
