//! Event loops that loopprobe knows, one module each.

pub mod tokio;
