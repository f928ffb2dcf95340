use std::io;

use super::{privileges, session_output::SessionOutput, signals::Signals, views};
use crate::{
    cli::{Exit, GlobalArgs, RecordArg, RecordArgs},
    collect::Stop,
    report::{Measured, clean},
};

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
