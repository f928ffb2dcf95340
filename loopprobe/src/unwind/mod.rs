//! From a copy of a stack to the addresses of its frames.
//!
//! Release builds keep no frame pointers, so frames are found by the call frame information (`.eh_frame`) of the modules
//! that the process has mapped. A walk is [complete](crate::model::Outcome::Complete) only when it arrives exactly at
//! the stack pointer with which the poll began; everything else has a name of its own.

mod bounded;
mod frame;
mod image;
mod memory;
mod module;
mod modules;
mod open_poll;
mod raw;
mod source;
mod unwinder;

pub use frame::{RawFrame, Unwound};
pub use memory::Memory;
pub use module::Module;
pub use open_poll::{OpenPoll, OpenTask, PollFunctions};
pub use raw::{RawStack, Registers};
pub use unwinder::Unwinder;
