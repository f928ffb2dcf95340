//! The option that names the address at which Prometheus may read a session's figures.

use clap::Args;

/// Who may read a session's figures while it runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Monitoring")]
pub struct MetricsArgs {
    /// Answer http://ADDRESS/metrics with figures for Prometheus, as in '127.0.0.1:9464'
    /// (docs/metrics.md)
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<String>,
}
