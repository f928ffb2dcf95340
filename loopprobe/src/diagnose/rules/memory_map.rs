//! In mmap, brk, madvise and the like, which share one lock of the whole process.

use super::{Colour, Rule};
use crate::{diagnose::syscall::Waits, model::Cause};

/// The process's memory map.
pub(super) const RULE: Rule = Rule {
    cause: Cause::MemoryMap,
    label: "memory map",
    colour: Colour::File,
    recognised: "in mmap, munmap, mprotect, brk, mremap, madvise or mlock: blocked, they wait for the lock of the process's memory map; on the CPU, they map or give back memory",
    advice: "another thread changes or faults in memory of the process, or much is mapped or given back at once: keep large buffers instead of allocating them anew, or allocate in tokio::task::spawn_blocking",
    applies: |moment| moment.waits() == Some(Waits::MemoryMap),
};
