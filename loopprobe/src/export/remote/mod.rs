//! What all exports to a receiver over HTTP share: a thread of their own behind a bounded queue,
//! retries, and counts of what arrived.

mod client;
mod counts;
mod exporter;

pub use client::{Client, Header};
pub use counts::{Counts, Tally};
pub use exporter::Exporter;
