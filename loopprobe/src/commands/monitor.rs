//! Adds alerts, metrics and word to the service manager to what a session's events go to.

use anyhow::Context as _;

use super::{invoking_user::InvokingUser, say, session_output::SessionOutput};
use crate::{
    cli::{GlobalArgs, MonitorArgs},
    collect::Options,
    export::{
        alert::{Alerts, Counts, Rules},
        metrics::Metrics,
        remote::{self, Exporter},
        systemd::Manager,
    },
    model::Sink,
    report::clean,
};

/// Whoever is told of a session.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What becomes of its alerts. To be told at its end.
    counts: Option<Counts>,
    /// Which polls alert.
    pub rules: Option<Rules>,
    /// What becomes of what is sent to receivers, by the name of the export.
    exports: Exports,
}

/// Exports by name, with what became of them.
pub(super) type Exports = Vec<(&'static str, remote::Counts)>;

/// Alerts and shows figures as was asked for, of a session with these options.
///
/// # Errors
///
/// If the address for the figures cannot be listened at.
pub(super) fn add(
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
    let (alerts, rules, exporters) = tellers(args, options, &environment);
    let told = Told {
        counts: alerts.as_ref().map(Alerts::counts),
        rules: Some(rules),
        exports: exports(&exporters),
    };
    output.add(alerts.map_or_else(Vec::new, |alerts| vec![Box::new(alerts) as Box<dyn Sink>]));
    for exporter in exporters {
        output.add(vec![Box::new(exporter)]);
    }
    Ok(told)
}

/// What alerts, if anything does, what says how bad a poll is, and what sends events to receivers.
pub(super) fn tellers(
    args: &MonitorArgs,
    options: &Options,
    environment: &[(String, String)],
) -> (Option<Alerts>, Rules, Vec<Exporter>) {
    let threshold = options.threshold();
    let alerts = args.alert.options(threshold, environment).map(Alerts::new);
    let rules = match &alerts {
        Some(alerts) => alerts.rules(),
        None => Rules::new(args.alert.filter(threshold)),
    };
    let exporters = args.exporters(&rules);
    (alerts, rules, exporters)
}

/// What becomes of what they send.
pub(super) fn exports(exporters: &[Exporter]) -> Exports {
    let each = exporters.iter();
    each.map(|exporter| (exporter.name(), exporter.counts()))
        .collect()
}

/// Says on standard error what was not sent, and where `all` is wanted what was; `of` is behind the
/// export's name.
pub(super) fn say_exports(exports: &Exports, of: &str, all: bool) {
    for (name, counts) in exports {
        let tally = counts.tally();
        let said = format!("{name}{of}: {}", clean(&tally.to_string()));
        if tally.is_incomplete() {
            say::warning(&said);
        } else if all {
            say::remark(&said);
        }
    }
}

impl Told {
    /// Says on standard error what was delivered, and always what was not.
    pub(super) fn say(&self, global: &GlobalArgs) {
        say_exports(&self.exports, "", !global.quiet);
        let Some(counts) = &self.counts else { return };
        let tally = counts.tally();
        if tally.is_incomplete() {
            say::warning(&format!("alerts: {}", clean(&tally.to_string())));
        } else if !global.quiet {
            say::remark(&format!("alerts: {tally}"));
        }
    }
}
