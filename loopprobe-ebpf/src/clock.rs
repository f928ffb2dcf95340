//! The clock of all times: `CLOCK_MONOTONIC`.

use aya_ebpf::helpers::bpf_ktime_get_ns;

/// In nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes nothing and only reads the clock.
    unsafe { bpf_ktime_get_ns() }
}
