use std::io;

use super::{
    gate::Gate,
    monitor, privileges,
    reload::{self, Reload},
    session_output::SessionOutput,
    signals::Signals,
    target, views,
};
use crate::{
    cli::{Cli, Exit, RecordArg, RecordArgs},
    collect::Stop,
    report::{Measured, clean, words},
};

pub(super) fn run(args: &RecordArgs, cli: &Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    views::refuse_same_file(
        None,
        &args.views,
        Some(&args.output),
        args.session.gate.junit.as_deref(),
    )?;
    let pid = target::pid(&args.target)?;
    let stop = Stop::new()?;
    let signals = Signals::block()?;
    let mut output = SessionOutput::without_report(Gate::new(&args.session.gate, global)?, global);
    output.add(views::open(&args.views)?);
    output.add(views::record(&RecordArg {
        record: Some(args.output.clone()),
    })?);
    let (options, dial) = reload::adjustable(args.session.options(pid, global));
    let told = monitor::add(&args.session.monitor, &options, global, &mut output)?;
    let reload = Reload::new(cli, &args.session, &args.config, dial, &told);
    signals.stop_or_reload(&stop, reload)?;
    let summary = privileges::observe(&options, &mut output, &stop)?;
    told.say(global);
    if !global.quiet {
        let mut out = anstream::stdout();
        io::Write::write_fmt(
            &mut out,
            format_args!(
                "recorded {} in {} to {} ({})\n",
                words::count(summary.long_polls, "long poll"),
                Measured(summary.duration_ns),
                args.output.display(),
                clean(&summary.reason)
            ),
        )?;
    }
    Ok(output.exit(global))
}
