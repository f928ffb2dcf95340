//! Sessions that watch threads instead of placing probes: held against the target's own record of
//! its polls.

mod harmless;
mod metrics;
mod open_polls;
mod options;
mod polls;
mod serve;

const WATCH: [&str; 2] = ["--mode", "watch"];
