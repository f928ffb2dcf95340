//! loopprobe's own memory.

/// Gives back to the kernel what was freed: to read a large file takes more than is kept of it, and
/// glibc's allocator keeps the rest for later. With another C library it does nothing.
pub fn give_back_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; malloc_trim(3) may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
