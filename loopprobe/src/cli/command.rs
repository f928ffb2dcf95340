//! The subcommands, each with what was typed for it. What they do is in `commands`.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::{
    ConfigArgs, Format, ObserveArgs, OutputArgs, RecordArg, ServeArgs, SessionArgs, SnapshotArgs,
    TargetArgs, TasksArgs, ViewArgs,
};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Report the long polls of a running process
    Attach(AttachArgs),
    /// Start a program and report its long polls from the first one on
    Run(RunArgs),
    /// List the running processes that use Tokio
    Ps(PsArgs),
    /// Show what a program, or a process, has of Tokio: task types, names, probe sites
    Inspect(InspectArgs),
    /// List every live task of a running process, without stopping it
    Tasks(TasksArgs),
    /// Tell all of a running process in one file: threads, polls, tasks, locks
    Snapshot(SnapshotArgs),
    /// Say what works on this machine, and how to mend what does not
    Doctor(DoctorArgs),
    /// Watch a running process on the terminal
    Top(TopArgs),
    /// Record a running process's long polls to a file
    Record(RecordArgs),
    /// Watch many processes, day and night, as they come and go
    Serve(ServeArgs),
    /// Show a recording, in every form
    Report(ReportArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

const ATTACH_EXAMPLES: &str = "\
Examples:
  sudo loopprobe attach --pid 1234
  sudo loopprobe attach --name api --threshold 1ms --duration 30s
  sudo loopprobe attach --pid 1234 --flamegraph flamegraph.svg --html report.html
  sudo loopprobe attach --pid 1234 --format json --output polls.jsonl
  sudo loopprobe attach --pid 1234 --duration 60s --fail-over 50ms    exit code 3 if a poll took longer

The process is never stopped or signalled. The kernel places the probes' breakpoints in it, and takes them away at the end.";

/// What was typed for `attach`.
#[derive(Args, Debug)]
#[command(after_help = ATTACH_EXAMPLES)]
pub struct AttachArgs {
    /// Which process.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Where the report goes.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Views beside the report.
    #[command(flatten)]
    pub views: ViewArgs,
    /// Whether to record too.
    #[command(flatten)]
    pub record: RecordArg,
    /// What the session is to do.
    #[command(flatten)]
    pub session: SessionArgs,
    /// Where further options are.
    #[command(flatten)]
    pub config: ConfigArgs,
}

const RUN_EXAMPLES: &str = "\
Examples:
  sudo loopprobe run -- ./my-server --port 8080
  sudo loopprobe run --threshold 1ms --output polls.txt -- cargo-built/app
  loopprobe run --fail-over 50ms --junit gate.xml -- target/debug/deps/api-0123   (docs/ci.md)

The program begins only when the probes are in place, so nothing of its early life is missed. Under sudo it runs as the
user who called sudo. SIGTERM and SIGHUP are passed on to it, and so is a SIGINT that another process sent (the terminal's
own Ctrl-C reaches it anyway). loopprobe ends when the program does, with its exit code, or 128 + N after signal N.";

/// What was typed for `run`.
#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Where the report goes.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Views beside the report.
    #[command(flatten)]
    pub views: ViewArgs,
    /// Whether to record too.
    #[command(flatten)]
    pub record: RecordArg,
    /// What the session is to do.
    #[command(flatten)]
    pub session: SessionArgs,
    /// Where further options are.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// What was typed for `ps`.
#[derive(Args, Debug)]
pub struct PsArgs {}

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
    pub path: Option<PathBuf>,
    /// All executable files that a process has mapped
    #[arg(long, short, value_name = "PID")]
    pub pid: Option<u32>,
    /// Print one JSON object (docs/inspect.md has its schema)
    #[arg(long)]
    pub json: bool,
    /// Print as text or json
    #[arg(long, value_enum, default_value = "text", hide = true)]
    pub format: Format,
    /// A separate debug file or unstripped copy; may be repeated
    #[arg(long, value_name = "FILE")]
    pub debug_file: Vec<PathBuf>,
}

/// What was typed for `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Look at this process too
    #[arg(long, short, value_name = "PID")]
    pub pid: Option<u32>,
}

const TOP_EXAMPLES: &str = "\
Examples:
  sudo loopprobe top --pid 1234
  sudo loopprobe top --name api --threshold 1ms

Press ? for the keys.";

/// What was typed for `top`.
#[derive(Args, Debug)]
#[command(after_help = TOP_EXAMPLES)]
pub struct TopArgs {
    /// Which process.
    #[command(flatten)]
    pub target: TargetArgs,
    /// What to observe.
    #[command(flatten)]
    pub observe: ObserveArgs,
}

const RECORD_EXAMPLES: &str = "\
Examples:
  sudo loopprobe record --pid 1234 -o session.lpr
  sudo loopprobe record --name api --duration 10m -o session.lpr
  loopprobe report session.lpr --html report.html

The recording can be read while it is written, after loopprobe was killed, and on another machine.";

/// What was typed for `record`.
#[derive(Args, Debug)]
#[command(after_help = RECORD_EXAMPLES)]
pub struct RecordArgs {
    /// Which process.
    #[command(flatten)]
    pub target: TargetArgs,
    /// The file, which must not exist yet
    #[arg(long, short, value_name = "FILE.lpr")]
    pub output: PathBuf,
    /// Views beside the report.
    #[command(flatten)]
    pub views: ViewArgs,
    /// What the session is to do.
    #[command(flatten)]
    pub session: SessionArgs,
    /// Where further options are.
    #[command(flatten)]
    pub config: ConfigArgs,
}

const REPORT_EXAMPLES: &str = "\
Examples:
  loopprobe report session.lpr
  loopprobe report session.lpr --html report.html --flamegraph flamegraph.svg
  loopprobe report session.lpr --format json | jq 'select(.type == \"long_poll\")'
  loopprobe report --diff before.lpr after.lpr --flamegraph worse.svg";

/// What was typed for `report`.
#[derive(Args, Debug)]
#[command(after_help = REPORT_EXAMPLES)]
pub struct ReportArgs {
    /// A recording, as `loopprobe record` writes it
    #[arg(value_name = "FILE", required_unless_present = "diff")]
    pub file: Option<PathBuf>,
    /// Compare two recordings: a table of what got worse, and with --flamegraph a picture of it
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with = "file")]
    pub diff: Option<Vec<PathBuf>>,
    /// Where the report goes.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Views beside the report.
    #[command(flatten)]
    pub views: ViewArgs,
}

/// What was typed for `completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// What was typed for `man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// The page of a subcommand; without it, that of loopprobe itself
    pub command: Option<String>,
}
