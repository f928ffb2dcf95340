//! The command line: what was typed. Each group of options turns itself into what it means, a type
//! of the library.

mod alert;
mod command;
mod config;
mod duration;
mod exit;
mod gate;
mod global;
mod metrics;
mod monitor;
mod observe;
mod otlp;
mod output;
mod profiles;
mod read;
mod serve;
mod session;
mod snapshot;
mod target;
mod tasks;
mod url;
mod views;

pub use alert::AlertArgs;
pub use command::{
    AttachArgs, Command, CompletionsArgs, DoctorArgs, InspectArgs, ManArgs, PsArgs, RecordArgs,
    ReportArgs, RunArgs, TopArgs,
};
pub use config::{ConfigArgs, ConfigError, Setting, Settings};
pub use duration::parse_duration;
pub use exit::Exit;
pub use gate::{AnnotationsArg, GateArgs};
pub use global::{ColorArg, GlobalArgs, LogLevel};
pub use metrics::MetricsArgs;
pub use monitor::MonitorArgs;
pub use observe::{ModeArg, ObserveArgs};
pub use otlp::OtlpArgs;
pub use output::{Format, OutputArgs};
pub use profiles::ProfilesArgs;
pub use read::CliError;
pub use serve::{SelectArgs, ServeArgs, ServeKeys};
pub use session::SessionArgs;
pub use snapshot::{SnapshotArgs, SnapshotFormat, SnapshotOnArgs};
pub use target::TargetArgs;
pub use tasks::{SortBy, TasksArgs};
use url::{parse_otlp_url, parse_url};
pub use views::{RecordArg, ViewArgs};

use std::ffi::OsString;

use clap::Parser;

const AFTER_HELP: &str = "\
Examples:
  loopprobe ps                                   which processes use Tokio
  sudo loopprobe attach --pid 1234               what blocks process 1234, until Ctrl-C
  sudo loopprobe attach --name api --duration 30s --format json
  sudo loopprobe run -- ./my-server --port 80    from the first poll on
  sudo loopprobe attach --pid 1234 --html report.html --flamegraph flamegraph.svg
  sudo loopprobe top --pid 1234                  a live view
  sudo loopprobe tasks --pid 1234                every live task
  sudo loopprobe snapshot --pid 1234             all threads, polls and tasks, for a ticket
  sudo loopprobe record --pid 1234 -o a.lpr      for `loopprobe report a.lpr`, here or elsewhere
  sudo loopprobe serve --all --metrics 127.0.0.1:9464      all that use Tokio, day and night
  loopprobe doctor                               what this machine lacks

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a --fail-over limit was passed, 4 worse than the --baseline. `run` passes on
its child's.";

/// Find what blocks a running Tokio program, from outside: no rebuild, no restart.
#[derive(Debug, Parser)]
#[command(name = "loopprobe", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What the options of a session came to.
    #[arg(skip)]
    pub settings: Settings,
    /// The words that were typed.
    #[arg(skip)]
    pub typed: Vec<OsString>,
}
