//! Processes as `/proc` shows them, read without trusting them and without touching them.
//!
//! A process may vanish, execute another program or rewrite its files at any moment; each function
//! says which of its errors means that it is gone. Process and thread ids are those that `/proc` of
//! this process shows.

mod about;
mod advice;
mod bias;
pub(crate) mod capabilities;
mod children;
mod error;
mod exit;
mod facts;
mod find;
mod gauge;
mod image;
mod map_watch;
mod maps;
mod memory;
mod own_memory;
mod placement;
mod resident;
mod status;

pub use about::About;
pub use advice::how_to_read;
pub use bias::CodeSegment;
pub use children::{ancestors, descendants};
pub use error::ProcessError;
pub(crate) use exit::cpu_ns;
pub use exit::{name, pidfd, started};
pub use facts::program;
pub use find::{all, by_command, by_name};
pub use gauge::Gauge;
pub use image::{ImageError, ImageFile};
pub use map_watch::MapWatch;
pub use maps::{Mapping, Maps, region_at};
pub use memory::Memory;
pub(crate) use memory::PAGE;
pub use own_memory::give_back_freed;
pub use placement::{cgroups, placement};
pub use resident::{Resident, resident};
pub use status::{Namespace, Status, can_read_descriptors, can_read_memory, perf_event_paranoid};
