//! Options of a snapshot: how long to look, and which form the file has.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{TargetArgs, parse_duration};
use crate::collect::Options;

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

/// When a session takes a snapshot by itself, and where it puts it.
#[derive(Args, Clone, Debug)]
pub struct SnapshotOnArgs {
    /// Take a snapshot when a poll is still open after this long, or all workers are blocked at
    /// once: 1s; at least 100ms, and at most one in five minutes
    #[arg(long, display_order = 9, value_name = "TIME", value_parser = parse_age)]
    pub snapshot_on: Option<Duration>,
    /// Write snapshots to files in this folder [default: the current one]
    #[arg(long, display_order = 10, value_name = "DIR")]
    pub snapshot_to: Option<PathBuf>,
}

impl SnapshotOnArgs {
    /// Why these options cannot be had together.
    pub fn refusal(&self) -> Option<String> {
        let is_lone = self.snapshot_on.is_none() && self.snapshot_to.is_some();
        is_lone.then(|| {
            "--snapshot-to says where snapshots go, and none is asked for: add --snapshot-on TIME"
                .to_owned()
        })
    }

    /// A session that sees such a poll, and reports it by then.
    pub fn widen(&self, options: Options) -> Options {
        let Some(age) = self.snapshot_on else {
            return options;
        };
        let threshold = options.threshold().at_most(age);
        Options {
            snapshot_on: Some(age),
            report_open_after: age.min(options.report_open_after),
            ..options.with_threshold(threshold)
        }
    }
}

fn parse_age(text: &str) -> Result<Duration, String> {
    let age = parse_duration(text)?;
    if age < Duration::from_millis(100) {
        return Err("open polls are looked at four times a second: at least 100ms".to_owned());
    }
    Ok(age)
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
