//! Groups the options for alerts with those for figures: who learns of a running session.

use clap::Args;

use super::{AlertArgs, MetricsArgs, OtlpArgs, ProfilesArgs};
use crate::export::{alert::Rules, otlp, profiles, remote::Exporter};

/// Who learns of a session while it runs.
#[derive(Args, Clone, Debug)]
pub struct MonitorArgs {
    /// Whom to tell at once.
    #[command(flatten)]
    pub alert: AlertArgs,
    /// Who may read its figures.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// Where OpenTelemetry is told of it.
    #[command(flatten)]
    pub otlp: OtlpArgs,
    /// Where profiles go.
    #[command(flatten)]
    pub profiles: ProfilesArgs,
}

impl MonitorArgs {
    /// What sends a session's events to receivers; `rules` say how bad which poll is.
    pub fn exporters(&self, rules: &Rules) -> Vec<Exporter> {
        let otlp = self.otlp.options(rules).map(otlp::exporter);
        let profiles = self.profiles.options().map(profiles::exporter);
        otlp.into_iter().chain(profiles).collect()
    }
}
