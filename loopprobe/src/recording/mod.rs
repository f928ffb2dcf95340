//! Sessions on disk: append-only, compressed, readable after the writer was killed.
//!
//! A recording is a head (magic bytes and a version) and blocks. A block is its compressed and its
//! raw length, the CRC-32 of its compressed bytes (each a little-endian `u32`), and those bytes:
//! raw deflate of JSON lines, the same lines that `--format json` prints. Blocks are written whole
//! every [`FLUSH_INTERVAL`] at the latest, so a killed writer loses no more than that; a torn last
//! block is recognised and dropped. Stacks are symbolized before they are recorded, so a recording
//! opens on another machine, and no byte of the target's stacks is in it.

mod block;
mod ending;
mod reader;
mod writer;

pub use block::{Damage, FLUSH_INTERVAL};
pub use ending::Ending;
pub use reader::{Reader, RecordingError, Tail};
pub use writer::Recorder;
