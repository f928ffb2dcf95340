//! A session's figures for Prometheus and whatever else reads OpenMetrics, over HTTP.

mod figures;
mod server;
mod sink;

pub use sink::Metrics;
