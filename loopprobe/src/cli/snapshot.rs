//! Options of a snapshot: how long to look, and which form the file has.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{TargetArgs, parse_duration};

const EXAMPLES: &str = "\
Examples:
  sudo loopprobe snapshot --pid 1234
  sudo loopprobe snapshot --name api -o hang.html --format html      for a ticket
  sudo loopprobe snapshot --pid 1234 --format json | jq '.summary.threads[] | {thread, doing, call}'

The process is never stopped or signalled: its threads and memory are read while it runs.";

/// What was typed for `snapshot`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SnapshotArgs {
    /// Which process.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How long polls are watched
    #[arg(long, short, display_order = 3, value_name = "TIME", value_parser = parse_duration, default_value = "2s")]
    pub duration: Duration,
    /// Polls that take at least this long are reported
    #[arg(long, short, display_order = 4, value_name = "TIME", value_parser = parse_duration, default_value = "10ms")]
    pub threshold: Duration,
    /// Write to a file instead of stdout
    #[arg(long, short, display_order = 5, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The form
    #[arg(
        long,
        short,
        display_order = 6,
        value_enum,
        hide_possible_values = true,
        value_name = "text|json|html",
        default_value = "text"
    )]
    pub format: SnapshotFormat,
    /// A separate debug file or unstripped copy; may be repeated
    #[arg(long, value_name = "FILE")]
    pub debug_file: Vec<PathBuf>,
}

/// The form of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SnapshotFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// One page that needs nothing beside it.
    Html,
}
