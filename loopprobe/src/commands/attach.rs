//! Observes a running process, with a report and whichever views were asked for.

use super::{
    failure::refuse, gate::Gate, observed::Observed, session_output::SessionOutput, snapshot, views,
};
use crate::cli::{AttachArgs, Cli, Exit};

pub(super) fn run(args: &AttachArgs, cli: &Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    refuse(args.session.refusal())?;
    views::refuse_same_file(
        Some(&args.output),
        &args.views,
        args.record.record.as_deref(),
        args.session.gate.junit.as_deref(),
    )?;
    let observed = Observed::find(&args.target)?;
    let mut output =
        SessionOutput::open(&args.output, Gate::new(&args.session.gate, global)?, global)?;
    output.add(views::open(&args.views)?);
    output.add(snapshot::on(&args.session, cli.global.cache()));
    output.add(views::record(&args.record)?);
    observed.observe(&args.session, &args.config, cli, &mut output)?;
    Ok(output.exit(global))
}
