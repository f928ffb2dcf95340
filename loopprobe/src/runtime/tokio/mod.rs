//! Tokio, seen from outside.
//!
//! Every task of Tokio 1.23 and later refers to a static `Vtable` (`tokio/src/runtime/task/raw.rs`): seven functions
//! (poll, schedule, dealloc, try_read_output, drop_join_handle_slow, drop_abort_handle, shutdown), then three offsets
//! (trailer, scheduler, id). Its first function, `tokio::runtime::task::raw::poll<F, S>`, is where polls are timed.

mod discover;
mod known;
mod names;
mod presence;
mod scheduler;
mod site;
mod stand;
mod version;
mod vtable;

pub use discover::{DiscoverError, discover, discover_with};
pub use names::{BoxedFutures, DebugInfoLevel, ProcessMemory, may_be_boxed, readable};
pub use presence::{Presence, presence};
pub use site::{
    CodeCoverage, HeaderLayout, LoopSymbols, Mangling, Scheduler, Site, TokioImage, Vtable,
};
pub use stand::{Stand, stand};
pub use version::Version;
pub use vtable::{RawVtable, VtableLayout};
