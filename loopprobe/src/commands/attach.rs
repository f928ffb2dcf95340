use clap::Args;

use super::{privileges, session_output::SessionOutput, signals::Signals, views};
use crate::{
    cli::{Exit, GlobalArgs, ObserveArgs, OutputArgs, RecordArg, TargetArgs, ViewArgs},
    collect::Stop,
};

const EXAMPLES: &str = "\
Examples:
  sudo loopprobe attach --pid 1234
  sudo loopprobe attach --name api --threshold 1ms --duration 30s
  sudo loopprobe attach --pid 1234 --flamegraph flamegraph.svg --html report.html
  sudo loopprobe attach --pid 1234 --format json --output polls.jsonl
  sudo loopprobe attach --pid 1234 --duration 60s --fail-over 50ms    exit code 3 if a poll took longer

The process is never stopped, written to or signalled.";

/// What was typed for `attach`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct AttachArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    observe: ObserveArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    views: ViewArgs,
    #[command(flatten)]
    record: RecordArg,
}

pub(super) fn run(args: &AttachArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    views::refuse_same_file(
        Some(&args.output),
        &args.views,
        args.record.record.as_deref(),
    )?;
    let pid = args.target.pid()?;
    let stop = Stop::new()?;
    Signals::block()?.stop(&stop)?;
    let mut output = SessionOutput::open(&args.output, &args.observe, global)?;
    output.add(views::open(&args.views)?);
    output.add(views::record(&args.record)?);
    privileges::observe(&args.observe.options(pid, global), &mut output, &stop)?;
    Ok(output.exit())
}
