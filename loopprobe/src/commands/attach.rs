use super::{
    gate::Gate,
    monitor, privileges,
    reload::{self, Reload},
    session_output::SessionOutput,
    signals::Signals,
    target, views,
};
use crate::{
    cli::{AttachArgs, Cli, Exit},
    collect::Stop,
};

pub(super) fn run(args: &AttachArgs, cli: &Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    views::refuse_same_file(
        Some(&args.output),
        &args.views,
        args.record.record.as_deref(),
        args.session.gate.junit.as_deref(),
    )?;
    let pid = target::pid(&args.target)?;
    let stop = Stop::new()?;
    let signals = Signals::block()?;
    let mut output =
        SessionOutput::open(&args.output, Gate::new(&args.session.gate, global)?, global)?;
    output.add(views::open(&args.views)?);
    output.add(views::record(&args.record)?);
    let (options, dial) = reload::adjustable(args.session.options(pid, global));
    let told = monitor::add(&args.session.monitor, &options, global, &mut output)?;
    let reload = Reload::new(cli, &args.session, &args.config, dial, &told);
    signals.stop_or_reload(&stop, reload)?;
    privileges::observe(&options, &mut output, &stop)?;
    told.say(global);
    Ok(output.exit(global))
}
