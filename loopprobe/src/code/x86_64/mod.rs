//! What x86-64 code tells.

pub(super) mod argument;
pub(super) mod awaits;
pub(super) mod block;
pub(super) mod call;
pub(super) mod deallocator;
pub(super) mod entry;
pub(super) mod imports;
pub(super) mod references;
pub(super) mod registers;
pub(super) mod spin_wait;
pub(super) mod state_byte;
pub(super) mod targets;
pub(super) mod thread_words;
