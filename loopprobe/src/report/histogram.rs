//! Long polls by duration, in steps of 1, 2 and 5 from a microsecond on.

use std::collections::BTreeMap;

/// Long polls by duration, in steps of 1, 2 and 5.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: BTreeMap<u64, u64>,
}

impl Histogram {
    /// Counts a poll.
    pub fn add(&mut self, ns: u64) {
        *self.counts.entry(floor(ns)).or_default() += 1;
    }

    /// The bars, shortest first, without a gap between the first and the last: lower bound, upper
    /// bound, count.
    pub fn bars(&self) -> Vec<(u64, u64, u64)> {
        let (Some(first), Some(last)) = (self.counts.keys().next(), self.counts.keys().last())
        else {
            return Vec::new();
        };
        let mut bars = Vec::new();
        let mut low = *first;
        while low <= *last {
            let high = next(low);
            bars.push((low, high, self.counts.get(&low).copied().unwrap_or(0)));
            if high == low {
                break;
            }
            low = high;
        }
        bars
    }
}

/// The largest step of the 1-2-5 series that is not above `ns`; the first one is a microsecond.
fn floor(ns: u64) -> u64 {
    let mut step = 1_000;
    while next(step) <= ns && next(step) > step {
        step = next(step);
    }
    step
}

fn next(step: u64) -> u64 {
    let power = 10_u64.pow(step.ilog10());
    match step / power {
        1 => step.saturating_mul(2),
        2 => step.saturating_mul(5) / 2,
        _ => step.saturating_mul(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_follow_one_two_five() {
        let mut histogram = Histogram::default();
        for ns in [10_000_000, 19_999_999, 20_000_000, 120_000_000] {
            histogram.add(ns);
        }
        let ms = 1_000_000;
        assert_eq!(
            histogram.bars(),
            [
                (10 * ms, 20 * ms, 2),
                (20 * ms, 50 * ms, 1),
                (50 * ms, 100 * ms, 0),
                (100 * ms, 200 * ms, 1)
            ]
        );
    }

    #[test]
    fn the_longest_possible_poll_ends() {
        let mut histogram = Histogram::default();
        histogram.add(u64::MAX);
        histogram.add(0);
        assert!(histogram.bars().len() < 100);
    }
}
