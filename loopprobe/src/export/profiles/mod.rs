//! Continuous profiles of blocked time for Pyroscope and what takes profiles as it does: what was
//! blocked since the last one, as pprof.
//!
//! The interface is `POST /ingest` of Pyroscope's server (Grafana Pyroscope, "Server HTTP API",
//! <https://grafana.com/docs/pyroscope/latest/reference-server-api/>); what it does with
//! `format=pprof` and which characters its names may have is in
//! `pkg/ingester/pyroscope/ingest_handler.go` and `api/model/labelset` of
//! <https://github.com/grafana/pyroscope>.

mod sink;

pub use sink::{Options, exporter};
