//! Records and limits shared by loopprobe and its eBPF programs.
//!
//! Everything here is `repr(C)` without padding that matters, written by the kernel side and read
//! by user space or the other way round. Durations are nanoseconds; times are `CLOCK_MONOTONIC`
//! nanoseconds (`bpf_ktime_get_ns`).
#![no_std]

pub mod config;
pub mod cost;
pub mod counters;
pub mod health;
pub mod histogram;
pub mod light;
pub mod records;
pub mod target;
pub mod thread;
pub mod wake;
pub mod watch;

/// Marks types that user space may read from and write to maps byte by byte.
#[cfg(feature = "user")]
macro_rules! pod {
    ($($t:ty),+ $(,)?) => {
        $(
            // SAFETY: the type is `repr(C)`, made of integers and arrays of integers only, so every
            // bit pattern is valid.
            unsafe impl aya::Pod for $t {}
        )+
    };
}
#[cfg(not(feature = "user"))]
macro_rules! pod {
    ($($t:ty),+ $(,)?) => {};
}
pub(crate) use pod;
