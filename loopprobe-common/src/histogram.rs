//! A log-linear histogram of durations.
//!
//! Each power of two is cut into four buckets, so a bucket is at most a quarter of its lower bound
//! wide, and its middle is within 12.5 % of every duration in it.

/// Buckets a power of two, as a power of two.
pub const SUB_BITS: u32 = 2;
/// Buckets a power of two.
pub const SUB: u64 = 1 << SUB_BITS;
/// Durations below 2^`MIN_BITS` ns share the first bucket: an entry and return probe alone take
/// longer than 64 ns.
pub const MIN_BITS: u32 = 6;
/// Durations from 2^`MAX_BITS` ns (18 minutes) on share the last bucket; their maximum is exact all
/// the same.
pub const MAX_BITS: u32 = 40;
/// How many buckets there are.
pub const BUCKETS: usize = ((MAX_BITS - MIN_BITS) as usize) * SUB as usize + 2;

/// The polls of one task type on one CPU; an element of the map `STATS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// How many polls.
    pub polls: u64,
    /// Their total.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// How many were at or over the threshold.
    pub long: u64,
    /// The sum of those.
    pub long_ns: u64,
    /// How many polls were in each bucket.
    pub buckets: [u32; BUCKETS],
}

impl Stats {
    /// Adds the polls of another CPU, or of another type.
    pub fn add(&mut self, other: &Self) {
        self.polls += other.polls;
        self.total_ns += other.total_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.long += other.long;
        self.long_ns += other.long_ns;
        for (to, from) in self.buckets.iter_mut().zip(&other.buckets) {
            *to = to.saturating_add(*from);
        }
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            polls: 0,
            total_ns: 0,
            max_ns: 0,
            long: 0,
            long_ns: 0,
            buckets: [0; BUCKETS],
        }
    }
}

/// The bucket of a duration; less than [`BUCKETS`].
#[inline(always)]
pub const fn bucket(ns: u64) -> usize {
    if ns < 1 << MIN_BITS {
        return 0;
    }
    if ns >= 1 << MAX_BITS {
        return BUCKETS - 1;
    }
    let exponent = ns.ilog2();
    let sub = (ns >> (exponent - SUB_BITS)) & (SUB - 1);
    ((exponent - MIN_BITS) as usize) * SUB as usize + sub as usize + 1
}

/// The lowest and the first too high duration of a bucket. The last one has no upper end:
/// `u64::MAX`.
pub const fn bounds(bucket: usize) -> (u64, u64) {
    if bucket == 0 {
        return (0, 1 << MIN_BITS);
    }
    if bucket >= BUCKETS - 1 {
        return (1 << MAX_BITS, u64::MAX);
    }
    let i = bucket as u64 - 1;
    let exponent = (i / SUB) as u32 + MIN_BITS;
    let width = 1u64 << (exponent - SUB_BITS);
    let low = (1u64 << exponent) + (i % SUB) * width;
    (low, low + width)
}

crate::pod!(Stats);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_all_durations() {
        let mut expected = 0;
        for b in 0..BUCKETS {
            let (low, high) = bounds(b);
            assert_eq!(low, expected);
            assert_eq!(bucket(low), b);
            assert_eq!(bucket(high - 1), b);
            expected = high;
        }
        assert_eq!(expected, u64::MAX);
    }

    #[test]
    fn middles_are_within_an_eighth() {
        for b in 1..BUCKETS - 1 {
            let (low, high) = bounds(b);
            let middle = (low + high) as f64 / 2.0;
            assert!((middle - low as f64) / low as f64 <= 0.125 + 1e-9);
        }
    }
}
