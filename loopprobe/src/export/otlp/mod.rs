//! A session for OpenTelemetry, by its protocol over HTTP or gRPC: the metrics, and each long poll
//! as a span and as a log record.
//!
//! The messages and the clients of gRPC are those of the OpenTelemetry project's crate. What is
//! sent where follows the specifications of OTLP 1.x (opentelemetry-proto,
//! `docs/specification.md`).

mod address;
mod attributes;
mod batch;
mod grpc;
mod http;
mod long_poll;
mod metrics;
mod sink;
mod transport;

pub use address::Address;
pub use batch::Signal;
pub use sink::{Options, exporter};
