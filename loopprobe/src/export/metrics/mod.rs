//! A session's figures for Prometheus and whatever else reads OpenMetrics, over HTTP.

mod board;
mod figures;
mod server;
mod sink;
mod targets;

pub use board::Board;
pub use sink::Metrics;
pub use targets::Targets;
