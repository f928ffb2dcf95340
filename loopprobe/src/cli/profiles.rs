//! Options for a receiver of continuous profiles.

use std::time::Duration;

use clap::Args;

use super::{otlp::parse_export_interval, url::parse_base_url};
use crate::export::{profiles::Options, remote::Header};

/// Where profiles of blocked time go.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Monitoring")]
pub struct ProfilesArgs {
    /// Push profiles of blocked time to this Pyroscope, as in 'http://127.0.0.1:4040'
    /// (docs/profiles.md)
    #[arg(long, value_name = "URL", value_parser = parse_base_url)]
    pub push_profiles: Option<String>,
    /// A header of those requests, as in 'x-scope-orgid=team-a'; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub push_header: Vec<Header>,
    /// Push one this often; at least every second
    #[arg(long, value_name = "TIME", value_parser = parse_export_interval, default_value = "15s")]
    pub push_interval: Duration,
}

impl ProfilesArgs {
    /// What this means; `None` if nothing is to be pushed.
    pub fn options(&self) -> Option<Options> {
        Some(Options {
            url: self.push_profiles.clone()?,
            headers: self.push_header.clone(),
            every: self.push_interval,
        })
    }
}
