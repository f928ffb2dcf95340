//! The course of `attach` and `record`: find the process, block signals, observe to the end.

use super::{
    monitor, privileges,
    reload::{self, Reload},
    session_output::SessionOutput,
    signals::Signals,
    target,
};
use crate::{
    cli::{Cli, ConfigArgs, SessionArgs, TargetArgs},
    collect::Stop,
    model::Summary,
};

/// A running process that is about to be observed.
pub(super) struct Observed {
    pid: u32,
    stop: Stop,
    signals: Signals,
}

impl Observed {
    /// Finds it, and holds back the signals that end a session: to be called before there is
    /// another thread.
    ///
    /// # Errors
    ///
    /// If no process, or more than one, is meant.
    pub(super) fn find(target: &TargetArgs) -> anyhow::Result<Self> {
        Ok(Self {
            pid: target::pid(target)?,
            stop: Stop::new()?,
            signals: Signals::block()?,
        })
    }

    /// Reports to `output`, and tells who else is to know, until the session ends.
    ///
    /// # Errors
    ///
    /// If it cannot be observed.
    pub(super) fn observe(
        self,
        session: &SessionArgs,
        config: &ConfigArgs,
        cli: &Cli,
        output: &mut SessionOutput,
    ) -> anyhow::Result<Summary> {
        let (options, dial) = reload::adjustable(session.options(self.pid, &cli.global));
        let told = monitor::add(&session.monitor, &options, &cli.global, output)?;
        let reload = Reload::new(cli, session, config, dial, &told);
        self.signals.stop_or_reload(&self.stop, reload)?;
        let summary = privileges::observe(&options, output, &self.stop)?;
        told.say(&cli.global);
        Ok(summary)
    }
}
