//! Options of `serve`: which processes of the machine are observed, how many, and how.

use std::time::Duration;

use clap::Args;

use super::{ConfigArgs, GlobalArgs, MonitorArgs, ObserveArgs, OutputArgs, parse_duration};
use crate::{collect::Options, model::Mode};

/// Which processes of the machine are observed.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which processes")]
pub struct SelectArgs {
    /// Processes of this name, as in 'api*'. This and the following may be repeated; one that fits
    /// is enough, and of those that fit the ones that use Tokio are observed
    #[arg(long, value_name = "PATTERN")]
    pub name: Vec<String>,
    /// Processes whose command line fits, as in '*--port 80*'
    #[arg(long, value_name = "PATTERN")]
    pub command: Vec<String>,
    /// Processes of a systemd unit: 'api.service'
    #[arg(long, value_name = "PATTERN")]
    pub unit: Vec<String>,
    /// Processes in a control group, by its path: '/kubepods*'
    #[arg(long, value_name = "PATTERN")]
    pub cgroup: Vec<String>,
    /// Processes in a container, by the first 12 digits of its id or by its name; '*' for every
    /// container
    #[arg(long, value_name = "PATTERN")]
    pub container: Vec<String>,
    /// All processes that use Tokio
    #[arg(long)]
    pub all: bool,
    /// Never processes of this name; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub except: Vec<String>,
    /// So many at once at the most; those beyond are counted
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub max_targets: u32,
    /// Look for new processes this often
    #[arg(long, value_name = "TIME", value_parser = parse_look, default_value = "5s")]
    pub look_every: Duration,
    /// Probe where polls return, too; without it polls are timed by their entries alone (--light)
    #[arg(long)]
    pub exact: bool,
}

/// What `serve` may read from a file.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("sample_hz", |option| option.default_value("250")))]
pub struct ServeKeys {
    /// Which processes.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Who is told.
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// What to observe of each.
    #[command(flatten)]
    pub observe: ObserveArgs,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  sudo loopprobe serve --all --metrics 127.0.0.1:9464
  sudo loopprobe serve --unit 'api*.service' --on-alert ./notify.sh --format json --output polls.jsonl
  sudo loopprobe serve --config /etc/loopprobe/serve.toml

SIGHUP reads the file again (docs/serve.md).";

/// What was typed for `serve`.
#[derive(Args, Debug)]
#[command(after_help = SERVE_EXAMPLES)]
pub struct ServeArgs {
    /// Where the reports go.
    #[command(flatten)]
    pub output: OutputArgs,
    /// What a file may say too.
    #[command(flatten)]
    pub keys: ServeKeys,
    /// Where further options are.
    #[command(flatten)]
    pub config: ConfigArgs,
}

impl SelectArgs {
    /// Whether any process can be meant.
    pub fn is_empty(&self) -> bool {
        let lists = [
            &self.name,
            &self.command,
            &self.unit,
            &self.cgroup,
            &self.container,
        ];
        !self.all && lists.into_iter().all(Vec::is_empty)
    }
}

impl ServeKeys {
    /// Why these options cannot be had together.
    pub fn refusal(&self) -> Option<String> {
        let observe = self.observe.refusal().filter(|_| !self.select.exact);
        observe.or_else(|| self.monitor.otlp.refusal())
    }

    /// What these options mean for one process.
    pub fn options(&self, pid: u32, global: &GlobalArgs) -> Options {
        let options = Options {
            mode: match self.observe.mode() {
                _ if self.select.exact => Mode::Exact,
                Mode::Exact if self.observe.mode.is_none() => Mode::Light,
                mode => mode,
            },
            // A second session for each process is more than a daemon should take.
            watch_roots: false,
            ..self.observe.options(pid, global)
        };
        let options = self.monitor.alert.widen(options);
        Options {
            look_every: look_every(&options),
            ..options
        }
    }
}

/// A daemon looks at each process half as often as a session of its own would, where that is early
/// enough for the open polls that are to be told of.
fn look_every(options: &Options) -> Duration {
    let by_default = Options::DEFAULT_LOOK;
    (options.report_open_after / 2).clamp(by_default, by_default * 2)
}

/// A look reads a little of every process.
fn parse_look(text: &str) -> Result<Duration, String> {
    let every = parse_duration(text)?;
    if every < Duration::from_millis(200) {
        return Err("every 200ms at the most".to_owned());
    }
    Ok(every)
}
