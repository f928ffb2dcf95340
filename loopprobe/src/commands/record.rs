use std::{io, path::PathBuf};

use clap::Args;

use super::{privileges, session_output::SessionOutput, signals::Signals, views};
use crate::{
    cli::{Exit, GlobalArgs, ObserveArgs, RecordArg, TargetArgs, ViewArgs},
    collect::Stop,
    report::{Measured, clean},
};

const EXAMPLES: &str = "\
Examples:
  sudo loopprobe record --pid 1234 -o session.lpr
  sudo loopprobe record --name api --duration 10m -o session.lpr
  loopprobe report session.lpr --html report.html

The recording can be read while it is written, after loopprobe was killed, and on another machine.";

/// What was typed for `record`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RecordArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    observe: ObserveArgs,
    /// The file, which must not exist yet
    #[arg(long, short, value_name = "FILE.lpr")]
    output: PathBuf,
    #[command(flatten)]
    views: ViewArgs,
}

pub(super) fn run(args: &RecordArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    views::refuse_same_file(None, &args.views, Some(&args.output))?;
    let pid = args.target.pid()?;
    let stop = Stop::new()?;
    Signals::block()?.stop(&stop)?;
    let mut output = SessionOutput::without_report(&args.observe, global);
    output.add(views::open(&args.views)?);
    output.add(views::record(&RecordArg {
        record: Some(args.output.clone()),
    })?);
    let summary = privileges::observe(&args.observe.options(pid, global), &mut output, &stop)?;
    if !global.quiet {
        let mut out = anstream::stdout();
        io::Write::write_fmt(
            &mut out,
            format_args!(
                "recorded {} long polls in {} to {} ({})\n",
                summary.long_polls,
                Measured(summary.duration_ns),
                args.output.display(),
                clean(&summary.reason)
            ),
        )?;
    }
    Ok(output.exit())
}
