//! ELF images: what a file holds, read without trusting it.
//!
//! Everything here takes bytes that somebody else wrote. Each access is bounded; anything that does not fit is an
//! [`ElfError`] or absent, never a panic.

mod address;
mod build_id;
mod error;
mod functions;
mod header;
mod image;
mod relocations;
mod source;

pub use address::{FileOffset, ProcAddr, VirtAddr};
pub use error::ElfError;
pub use functions::FunctionTable;
pub use image::Image;
