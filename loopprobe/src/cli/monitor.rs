//! Groups the options for alerts with those for figures: who learns of a running session.

use clap::Args;

use super::{AlertArgs, MetricsArgs};

/// Who learns of a session while it runs.
#[derive(Args, Clone, Debug)]
pub struct MonitorArgs {
    /// Whom to tell at once.
    #[command(flatten)]
    pub alert: AlertArgs,
    /// Who may read its figures.
    #[command(flatten)]
    pub metrics: MetricsArgs,
}
