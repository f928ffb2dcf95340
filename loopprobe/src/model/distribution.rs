//! Counts of polls by duration, in the kernel side's buckets: four a power of two.

use loopprobe_common::histogram::{BUCKETS, Stats, bounds};

/// How many polls took how long. Buckets are those of the kernel side: four a power of two, the
/// first below 64 ns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// Their total, in nanoseconds.
    pub total_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
    /// How many in each bucket; as long as there are buckets, or empty.
    buckets: Vec<u64>,
}

impl From<&Stats> for Distribution {
    fn from(stats: &Stats) -> Self {
        Self {
            count: stats.polls,
            total_ns: stats.total_ns,
            max_ns: stats.max_ns,
            buckets: stats.buckets.iter().map(|n| u64::from(*n)).collect(),
        }
    }
}

impl Distribution {
    /// What came since it was `before`. The longest of that is not known: `max_ns` is the longest
    /// of all.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let earlier = before.buckets.iter().chain(std::iter::repeat(&0));
        Self {
            count: self.count.saturating_sub(before.count),
            total_ns: self.total_ns.saturating_sub(before.total_ns),
            max_ns: self.max_ns,
            buckets: self
                .buckets
                .iter()
                .zip(earlier)
                .map(|(now, before)| now.saturating_sub(*before))
                .collect(),
        }
    }

    /// The shortest bucket's end that no more than `count` polls reach, in nanoseconds: those that
    /// are longer are in it.
    pub fn longest(&self, count: u64) -> u64 {
        let mut longer = 0;
        for (bucket, polls) in self.buckets.iter().enumerate().rev() {
            longer += polls;
            if longer > count {
                let (low, high) = bounds(bucket);
                return if high == u64::MAX { low } else { high };
            }
        }
        0
    }

    /// How many took less than each of `ends`, and not less than the one before; a further one for
    /// the rest. `ends` are ascending, in nanoseconds; powers of two from 64 on are exact, and
    /// elsewhere a bucket belongs to the first end that it reaches.
    pub fn below(&self, ends: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; ends.len() + 1];
        for (bucket, count) in self.buckets.iter().enumerate().take(BUCKETS) {
            let (_, high) = bounds(bucket);
            let at = ends.iter().position(|end| high <= *end);
            counts[at.unwrap_or(ends.len())] += count;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use loopprobe_common::histogram::bucket;

    use super::*;

    #[test]
    fn every_poll_is_below_the_right_end() {
        let mut stats = Stats::default();
        for ns in [10, 63, 64, 1023, 1024, 5_000, 1 << 34, u64::MAX] {
            stats.polls += 1;
            stats.buckets[bucket(ns)] += 1;
        }
        let distribution = Distribution::from(&stats);
        assert_eq!(distribution.below(&[64, 1024, 1 << 34]), [2, 2, 2, 2]);
        assert_eq!(Distribution::default().below(&[64]), [0, 0]);
    }
}
