//! Clocks, in nanoseconds.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// A duration in nanoseconds; the longest that there is if it is longer.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds on the clock of `bpf_ktime_get_ns`.
pub(crate) fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| nanoseconds(t.into()))
}

/// Nanoseconds since 1970.
pub(crate) fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, nanoseconds)
}
