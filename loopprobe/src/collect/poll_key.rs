//! Which poll it is.

/// A poll: its thread, and when the kernel side saw it begin.
pub(super) type PollKey = (u32, u64);
