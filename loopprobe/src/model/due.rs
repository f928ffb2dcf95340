//! When what comes at intervals comes next; being late once does not delay the following.

use std::time::Duration;

use crate::clock::nanoseconds;

/// When something that comes at intervals comes next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Due {
    next_ns: u64,
}

impl Due {
    /// Whether [`Self::take`] would say so.
    pub(crate) fn is_at(&self, now_ns: u64) -> bool {
        now_ns >= self.next_ns
    }

    /// Whether it is due at `now_ns`; if so, it comes again `every` so often. Being late once does
    /// not make the next one late.
    pub(crate) fn take(&mut self, now_ns: u64, every: Duration) -> bool {
        if !self.is_at(now_ns) {
            return false;
        }
        let every_ns = nanoseconds(every);
        self.next_ns = self.next_ns.saturating_add(every_ns);
        if self.next_ns <= now_ns {
            self.next_ns = now_ns.saturating_add(every_ns);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(every: u64, times: &[u64]) -> Vec<u64> {
        let mut due = Due::default();
        let every = Duration::from_nanos(every);
        let taken = times.iter().filter(|time| due.take(**time, every));
        taken.copied().collect()
    }

    #[test]
    fn it_comes_as_often_as_it_should() {
        let times = [100, 110, 120, 131, 140, 150, 160];
        assert_eq!(taken(25, &times), [100, 131, 150]);
        assert_eq!(taken(0, &times), times);
        // After a long pause it comes once, not once for each time missed.
        assert_eq!(taken(10, &[100, 200, 201, 211]), [100, 200, 211]);
    }
}
