//! Quantiles of a histogram: the middle of a bucket, within 12.5 % of the truth.

use loopprobe_common::histogram::{self, BUCKETS, Stats};

/// The duration that a share of the polls does not exceed: the middle of its bucket, but never more
/// than the maximum.
pub(super) fn quantile(stats: &Stats, share: f64) -> u64 {
    let total: u64 = stats.buckets.iter().map(|n| u64::from(*n)).sum();
    let rank = ((total as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    for (bucket, n) in stats.buckets.iter().enumerate() {
        seen += u64::from(*n);
        if seen >= rank {
            let (low, high) = histogram::bounds(bucket);
            let middle = if bucket == BUCKETS - 1 {
                low
            } else {
                low + (high - low) / 2
            };
            return middle.min(stats.max_ns);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(durations: &[u64]) -> Stats {
        let mut stats = Stats::default();
        for &ns in durations {
            stats.polls += 1;
            stats.max_ns = stats.max_ns.max(ns);
            stats.buckets[histogram::bucket(ns)] += 1;
        }
        stats
    }

    #[test]
    fn quantiles_are_within_an_eighth() {
        let durations: Vec<u64> = (1..=1000).map(|i| i * 1000).collect();
        let stats = stats(&durations);
        for (share, truth) in [(0.5, 500_000.0), (0.99, 990_000.0)] {
            let error = (quantile(&stats, share) as f64 - truth).abs() / truth;
            assert!(error <= 0.126, "{share}: {error}");
        }
    }

    #[test]
    fn a_quantile_never_exceeds_the_maximum() {
        assert_eq!(quantile(&stats(&[4097]), 0.99), 4097);
        assert_eq!(quantile(&stats(&[]), 0.5), 0);
    }
}
