//! From the kernel's records to the model's events.

mod advice;
mod bill;
mod corrections;
mod deadlock;
pub(crate) mod debug_files;
mod dial;
mod doing;
mod drain;
mod error;
mod gap;
mod groups;
mod head;
mod health;
mod images;
mod inbox;
mod light;
mod live;
mod looked;
mod naming;
mod observe;
mod options;
mod polls;
mod record;
mod regions;
mod runtime_code;
mod stacks;
mod stop;
mod stuck;
mod summary;
mod threads;
mod workers;

pub use dial::ThresholdDial;
pub use error::ObserveError;
pub use observe::Observer;
pub use options::Options;
pub use stop::Stop;
