//! ELF images: what a file holds, read without trusting it.
//!
//! Everything here takes bytes that somebody else wrote. Each access is bounded; anything that does
//! not fit is an [`ElfError`] or absent, never a panic.

mod address;
mod architecture;
mod build_id;
mod debug_file;
mod digest;
mod error;
mod functions;
mod header;
mod image;
mod pages;
mod pieces;
mod relocations;
mod sections;
mod segments;
mod shared;
mod source;
mod starts;
mod state;
mod symbols;

pub use address::{FileOffset, ProcAddr, VirtAddr};
pub use architecture::Architecture;
pub use debug_file::{DebugFileError, debug_file_places, find_debug_file, open_debug_file};
pub use digest::ImageDigest;
pub use error::ElfError;
pub use functions::FunctionTable;
pub use image::Image;
pub use pieces::{Piece, Pieces};
pub use sections::Sections;
pub use state::FileState;
pub use symbols::{Symbol, SymbolTable};
