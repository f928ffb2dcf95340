//! Processes as `/proc` shows them, read without trusting them and without touching them.
//!
//! A process may vanish, execute another program or rewrite its files at any moment; each function says which of its
//! errors means that it is gone. Process and thread ids are those that `/proc` of this process shows.

pub(crate) mod capabilities;
mod children;
mod error;
mod exit;
mod find;
mod image;
mod maps;
mod memory;
mod status;

pub use children::descendants;
pub use error::ProcessError;
pub use exit::{name, pidfd};
pub use find::{all, by_name, program};
pub use image::{ImageError, ImageFile};
pub use maps::{Mapping, Maps, region_at};
pub use memory::Memory;
pub(crate) use memory::PAGE;
pub use status::{Namespace, Status, can_read_descriptors, can_read_memory};
