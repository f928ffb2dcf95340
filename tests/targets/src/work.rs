//! Ways to keep a thread busy for a known time.

use std::hint::black_box;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::clock::thread_cpu_ns;
use crate::truth::ask_ms;

/// Blocks the thread in the kernel.
#[inline(never)]
pub fn block_ms(ms: u64) {
    ask_ms(ms);
    std::thread::sleep(Duration::from_millis(ms));
}

/// Waits for `ms` on a condition variable that nobody signals.
#[inline(never)]
pub fn wait_ms(ms: u64) {
    ask_ms(ms);
    let (mutex, condition) = (Mutex::new(()), Condvar::new());
    let end = Instant::now() + Duration::from_millis(ms);
    let mut guard = mutex.lock().expect("no panic");
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        guard = condition.wait_timeout(guard, left).expect("no panic").0;
    }
}

/// Does `work` below so many kilobytes of stack.
#[inline(never)]
pub fn deep(kilobytes: u64, work: &dyn Fn()) {
    let frame = [0_u8; 1_000];
    black_box(&frame);
    if kilobytes == 0 {
        work();
    } else {
        deep(kilobytes - 1, work);
    }
    black_box(&frame);
}

/// Computes for `ms` of the thread's own CPU time.
#[inline(never)]
pub fn spin_ms(ms: u64) {
    ask_ms(ms);
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
