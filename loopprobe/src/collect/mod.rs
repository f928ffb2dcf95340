//! From the kernel's records to the model's events.

mod options;

pub use options::Options;
