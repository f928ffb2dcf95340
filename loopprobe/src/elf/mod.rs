//! ELF images: what a file holds, read without trusting it.
//!
//! Everything here takes bytes that somebody else wrote. Each access is bounded; anything that does not fit is an
//! [`ElfError`] or absent, never a panic.

mod address;

pub use address::{FileOffset, ProcAddr, VirtAddr};
