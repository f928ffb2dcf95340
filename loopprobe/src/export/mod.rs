//! Continuous outputs: what a session tells others while it runs.

pub mod alert;
pub mod metrics;
pub mod otlp;
pub mod profiles;
pub mod remote;
pub mod systemd;
