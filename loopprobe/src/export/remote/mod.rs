//! What all exports to a receiver share: a thread of their own behind a bounded queue, retries, and
//! counts of what arrived.

mod client;
mod counts;
mod exporter;
mod header;
mod retry;

pub use client::Client;
pub use counts::{Counts, Tally};
pub use exporter::Exporter;
pub use header::Header;
pub use retry::{Answer, End, Failure};
