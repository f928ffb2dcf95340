use anstyle::{AnsiColor, Style};
use anyhow::Context as _;

use super::{invoking_user::InvokingUser, session_output::SessionOutput};
use crate::{
    cli::{GlobalArgs, MonitorArgs},
    collect::Options,
    export::{
        alert::{Alerts, Counts},
        metrics::Metrics,
    },
    report::clean,
};

const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// What becomes of a session's alerts. To be told at its end.
#[derive(Debug, Default)]
pub struct Told(Option<Counts>);

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
            anstream::eprintln!("metrics: http://{}/metrics", metrics.address()?);
        }
        output.add(vec![Box::new(metrics)]);
    }
    let environment = InvokingUser::from_sudo().map_or_else(Vec::new, |user| user.environment());
    let Some(wanted) = args.alert.options(options.threshold, &environment) else {
        return Ok(Told::default());
    };
    let alerts = Alerts::new(wanted);
    let counts = alerts.counts();
    output.add(vec![Box::new(alerts)]);
    Ok(Told(Some(counts)))
}

impl Told {
    /// Says on standard error what was delivered, and always what was not.
    pub fn say(&self, global: &GlobalArgs) {
        let Some(counts) = &self.0 else { return };
        let tally = counts.tally();
        if tally.is_incomplete() {
            anstream::eprintln!(
                "{WARNING}warning:{WARNING:#} alerts: {}",
                clean(&tally.to_string())
            );
        } else if !global.quiet {
            anstream::eprintln!("alerts: {tally}");
        }
    }
}
