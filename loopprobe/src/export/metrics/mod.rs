//! A session's figures for Prometheus and whatever else reads OpenMetrics, over HTTP; OTLP sends
//! the same.

mod board;
mod family;
mod figures;
mod server;
mod shown;
mod sink;
mod targets;

pub use board::Board;
pub(super) use family::{Data, Family, Histogram, Number, Series};
pub(super) use figures::Figures;
pub use sink::Metrics;
pub use targets::Targets;
