//! Options for a receiver of OpenTelemetry's protocol.

use std::time::Duration;

use clap::Args;

use super::{parse_duration, parse_otlp_url};
use crate::export::{
    alert::Rules,
    otlp::{Address, Options, Signal},
    remote::Header,
};

/// Where OpenTelemetry is told of a session.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Monitoring")]
pub struct OtlpArgs {
    /// Send metrics, and each long poll as a span and a log record, to this receiver of OTLP: over
    /// HTTP, as in 'http://127.0.0.1:4318', or over gRPC, as in 'grpc://127.0.0.1:4317', or with
    /// TLS, 'https' and 'grpcs' (docs/otlp.md)
    #[arg(long, value_name = "URL", value_parser = parse_otlp_url)]
    pub otlp: Option<Address>,
    /// A header of those requests, as in 'authorization=Bearer 123'; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub otlp_header: Vec<Header>,
    /// Send metrics this often; at least every second
    #[arg(long, value_name = "TIME", value_parser = parse_export_interval, default_value = "10s")]
    pub otlp_interval: Duration,
    /// Send only these: metrics, traces, logs
    #[arg(long, value_name = "SIGNAL", value_delimiter = ',', value_parser = signal)]
    pub otlp_only: Vec<Signal>,
}

impl OtlpArgs {
    /// Why these options cannot be had together.
    pub fn refusal(&self) -> Option<String> {
        let address = self.otlp.as_ref()?;
        let mut headers = self.otlp_header.iter();
        let why = headers.find_map(|header| address.refusal(header))?;
        Some(format!("--otlp-header: {why}"))
    }

    /// What this means; `None` if nothing is to be sent.
    pub fn options(&self, rules: &Rules) -> Option<Options> {
        let signals = match self.otlp_only.as_slice() {
            [] => Signal::ALL.to_vec(),
            only => only.to_vec(),
        };
        Some(Options {
            address: self.otlp.clone()?,
            headers: self.otlp_header.clone(),
            every: self.otlp_interval,
            signals,
            rules: rules.clone(),
        })
    }
}

fn signal(text: &str) -> Result<Signal, String> {
    let mut all = Signal::ALL.into_iter();
    all.find(|signal| signal.name() == text)
        .ok_or_else(|| format!("it is one of {}", Signal::ALL.map(Signal::name).join(", ")))
}

/// How often something is sent.
pub(super) fn parse_export_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_secs(1) {
        return Err("every second at the most".to_owned());
    }
    Ok(interval)
}
