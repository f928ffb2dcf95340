//! Observes a running process into a recording, without a report beside it.

use std::io;

use super::{
    failure::refuse, gate::Gate, observed::Observed, session_output::SessionOutput, snapshot, views,
};
use crate::{
    cli::{Cli, Exit, RecordArg, RecordArgs},
    report::{Measured, clean, words},
};

pub(super) fn run(args: &RecordArgs, cli: &Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    refuse(args.session.refusal())?;
    views::refuse_same_file(
        None,
        &args.views,
        Some(&args.output),
        args.session.gate.junit.as_deref(),
    )?;
    let observed = Observed::find(&args.target)?;
    let mut output = SessionOutput::without_report(Gate::new(&args.session.gate, global)?, global);
    output.add(views::open(&args.views)?);
    output.add(snapshot::on(&args.session, cli.global.cache()));
    output.add(views::record(&RecordArg {
        record: Some(args.output.clone()),
    })?);
    let summary = observed.observe(&args.session, &args.config, cli, &mut output)?;
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
