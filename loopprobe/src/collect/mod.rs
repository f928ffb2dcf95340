//! From the kernel's records to the model's events.

mod error;
mod groups;
mod images;
mod observe;
mod options;
mod polls;
mod record;
mod stacks;
mod stop;
mod summary;
mod threads;

pub use error::ObserveError;
pub use observe::{Observer, observe};
pub use options::Options;
pub use stop::Stop;
