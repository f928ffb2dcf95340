//! From a copy of a stack to the addresses of its frames.
//!
//! Release builds keep no frame pointers, so frames are found by the call frame information
//! (`.eh_frame`) of the modules that the process has mapped. Code without it is walked by frame
//! pointers or by reading it forward to its return, each step proven by a call in front of the
//! return address. A walk is [whole](crate::model::Outcome::is_whole) only when it arrives exactly
//! at the stack pointer with which the poll began; everything else has a name of its own.

mod bounded;
mod end;
mod frame;
mod headers;
mod host;
mod image;
mod module;
mod modules;
mod open_poll;
mod raw;
mod section;
mod shared;
mod source;
mod unwinder;

pub use crate::process::Memory;
#[cfg(test)]
pub(crate) use frame::testing;
pub use frame::{Means, RawFrame, Unwound};
pub use module::Module;
pub use open_poll::{OpenPoll, OpenTask, PollFunctions};
pub use raw::{RawStack, Registers};
pub use unwinder::Unwinder;
