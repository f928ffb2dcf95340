//! Several processes under one load of the kernel side.
//!
//! Each process that is observed is a target, known by its index: it has an element of its own in
//! each table that says something of a process. The map `TARGETS` has its index.

/// How many processes one load can serve.
pub const MAX_TARGETS: u32 = 64;

/// The key in the map `TARGETS` of a thread of loopprobe's own that is followed like a target's
/// (the canary). A process's key is its id, in loopprobe's pid namespace, and no id is that large
/// (`PID_MAX_LIMIT` in `include/linux/threads.h`: 2^22).
#[inline(always)]
pub const fn canary_key(thread: u32) -> u32 {
    1 << 31 | thread
}

/// The element of the map `MAY_BE_TARGET` that a key of `TARGETS` has: a byte, 0 if no such key is
/// there. An array takes less than a hash map ([`crate::thread::HOMES`]), and most threads that the
/// scheduler switches are of no target.
#[inline(always)]
pub const fn mark(key: u32) -> usize {
    key as usize % MARKS
}

/// How many bytes `MAY_BE_TARGET` has.
pub const MARKS: usize = 4_096;

/// The key of what is the target's own, in a map that all of them share.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Own {
    /// Which target.
    pub target: u64,
    /// What: an address, an id, a descriptor.
    pub key: u64,
}

impl Own {
    /// A key of the target's.
    #[inline(always)]
    pub const fn new(target: u32, key: u64) -> Self {
        Self {
            target: target as u64,
            key,
        }
    }
}

crate::pod!(Own);
