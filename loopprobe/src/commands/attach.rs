use super::{
    gate::Gate, monitor, privileges, session_output::SessionOutput, signals::Signals, target, views,
};
use crate::{
    cli::{AttachArgs, Exit, GlobalArgs},
    collect::Stop,
};

pub(super) fn run(args: &AttachArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    views::refuse_same_file(
        Some(&args.output),
        &args.views,
        args.record.record.as_deref(),
        args.session.gate.junit.as_deref(),
    )?;
    let pid = target::pid(&args.target)?;
    let stop = Stop::new()?;
    Signals::block()?.stop(&stop)?;
    let mut output =
        SessionOutput::open(&args.output, Gate::new(&args.session.gate, global)?, global)?;
    output.add(views::open(&args.views)?);
    output.add(views::record(&args.record)?);
    let options = args.session.options(pid, global);
    let told = monitor::add(&args.session.monitor, &options, global, &mut output)?;
    privileges::observe(&options, &mut output, &stop)?;
    told.say(global);
    Ok(output.exit(global))
}
