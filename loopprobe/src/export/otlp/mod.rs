//! A session for OpenTelemetry, by its protocol over HTTP: the metrics, and each long poll as a
//! span and as a log record.
//!
//! The messages are those of the OpenTelemetry project's crate. What is sent where follows the
//! specifications of OTLP 1.x (opentelemetry-proto, `docs/specification.md`).

mod attributes;
mod long_poll;
mod metrics;
mod sink;

pub use sink::{Options, Signal, exporter};
