//! A token bucket that bounds alerts a minute.

/// So many at once, and as many a minute from then on: a token bucket.
#[derive(Debug)]
pub(super) struct Rate {
    a_minute: u32,
    /// How many are left, in billionths.
    left: u64,
    /// As of when (`CLOCK_MONOTONIC`, nanoseconds).
    as_of_ns: u64,
}

const ONE: u64 = 1_000_000_000;

impl Rate {
    /// None so far.
    pub(super) fn new(a_minute: u32) -> Self {
        Self {
            a_minute,
            left: u64::from(a_minute) * ONE,
            as_of_ns: 0,
        }
    }

    /// Takes one at `now_ns`, if there is one left.
    pub(super) fn take(&mut self, now_ns: u64) -> bool {
        let passed = u128::from(now_ns.saturating_sub(self.as_of_ns));
        let full = u64::from(self.a_minute) * ONE;
        let more = passed * u128::from(self.a_minute) / 60;
        self.left = self
            .left
            .saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
            .min(full);
        self.as_of_ns = now_ns;
        let may = self.left >= ONE;
        if may {
            self.left -= ONE;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_each_time_that_there_is_room() {
        const SECOND: u64 = 1_000_000_000;
        let mut rate = Rate::new(6);
        let now = 1_000 * SECOND;
        assert_eq!((0..20).filter(|_| rate.take(now)).count(), 6);
        assert!(!rate.take(now + 9 * SECOND));
        assert!(rate.take(now + 10 * SECOND));
        assert!(!rate.take(now + 11 * SECOND));
        assert_eq!(
            (0..20).filter(|_| rate.take(now + 3_600 * SECOND)).count(),
            6
        );
    }
}
