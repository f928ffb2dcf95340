//! Ways to keep a thread busy for a known time.

use std::hint::black_box;
use std::time::Duration;

use crate::clock::thread_cpu_ns;

/// Blocks the thread in the kernel.
#[inline(never)]
pub fn block_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Computes for `ms` of the thread's own CPU time.
#[inline(never)]
pub fn spin_ms(ms: u64) {
    let end = thread_cpu_ns() + ms * 1_000_000;
    let mut value = 1_u64;
    while thread_cpu_ns() < end {
        for _ in 0..2_000 {
            value = black_box(
                value
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1),
            );
        }
    }
}

/// Stops the process after `seconds`, whatever happens: no test leaves one behind.
pub fn bound_life(seconds: u32) {
    // SAFETY: the default action of SIGALRM ends the process, no handler is involved.
    unsafe { libc::alarm(seconds) };
}
