//! Adds alerts, metrics and word to the service manager to what a session's events go to.

use anyhow::Context as _;

use super::{invoking_user::InvokingUser, say, session_output::SessionOutput};
use crate::{
    cli::{GlobalArgs, MonitorArgs},
    collect::Options,
    export::{
        alert::{Alerts, Counts, Rules},
        metrics::Metrics,
        systemd::Manager,
    },
    model::Sink,
    report::clean,
};

/// Whoever is told of a session.
#[derive(Debug, Default)]
pub struct Told {
    /// What becomes of its alerts. To be told at its end.
    counts: Option<Counts>,
    /// Which polls alert.
    pub rules: Option<Rules>,
}

/// Alerts and shows figures as was asked for, of a session with these options.
///
/// # Errors
///
/// If the address for the figures cannot be listened at.
pub fn add(
    args: &MonitorArgs,
    options: &Options,
    global: &GlobalArgs,
    output: &mut SessionOutput,
) -> anyhow::Result<Told> {
    if let Some(address) = &args.metrics.metrics {
        let metrics = Metrics::listen(address)
            .with_context(|| format!("cannot listen at {address} (--metrics HOST:PORT)"))?;
        if !global.quiet {
            say::remark(&format!("metrics: http://{}/metrics", metrics.address()?));
        }
        output.add(vec![Box::new(metrics)]);
    }
    output.add(
        Manager::from_environment()
            .map_or_else(Vec::new, |manager| vec![Box::new(manager) as Box<dyn Sink>]),
    );
    let environment = InvokingUser::from_sudo().map_or_else(Vec::new, |user| user.environment());
    let Some(wanted) = args.alert.options(options.threshold(), &environment) else {
        return Ok(Told::default());
    };
    let alerts = Alerts::new(wanted);
    let told = Told {
        counts: Some(alerts.counts()),
        rules: Some(alerts.rules()),
    };
    output.add(vec![Box::new(alerts)]);
    Ok(told)
}

impl Told {
    /// Says on standard error what was delivered, and always what was not.
    pub fn say(&self, global: &GlobalArgs) {
        let Some(counts) = &self.counts else { return };
        let tally = counts.tally();
        if tally.is_incomplete() {
            say::warning(&format!("alerts: {}", clean(&tally.to_string())));
        } else if !global.quiet {
            say::remark(&format!("alerts: {tally}"));
        }
    }
}
