//! Manners of a service: priorities for systemd's journal, and what its service manager wants to
//! know.

mod journal;
mod manager;

pub use journal::{JournalLines, JournalSink, Priority, is_journal};
pub use manager::{Daemon, Manager, reloaded, reloading};
