//! Continuous outputs: what a session tells others while it runs.

pub mod alert;
pub mod metrics;
pub mod systemd;
