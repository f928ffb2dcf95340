//! What the kernel side says of its own cost.

/// A part of it; the map `COSTS` has all of these for each target.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A thread of the target went off its CPU, or on one. Stacks that were taken or sent then are
    /// in it.
    Switch,
    /// A thread of the target woke another one, or was woken. Stacks that were taken then are in
    /// it.
    Wake,
    /// A stack was taken or sent at a switch or a wake-up.
    Stack,
    /// A sample interrupted a thread of the target. Its stack is in it.
    Sample,
    /// A probe other than those of polls was hit: where the loop waits, and where closures of the
    /// blocking pool begin.
    Loop,
    /// A probe was the first one that its thread hit since it was back on a CPU: the way to it is
    /// out of the caches.
    Cold,
}

impl Part {
    /// How many there are.
    pub const COUNT: u32 = Self::Cold as u32 + 1;
}

/// How often something ran on one CPU, and how long that took.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How often.
    pub runs: u64,
    /// How many of these were timed.
    pub timed: u64,
    /// How long those took together.
    pub timed_ns: u64,
}

impl Cost {
    /// Adds another CPU's.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.timed += other.timed;
        self.timed_ns += other.timed_ns;
    }

    /// What all runs took, if those that were not timed took as long as the others.
    pub fn total_ns(&self) -> u64 {
        let total = u128::from(self.timed_ns) * u128::from(self.runs);
        total.checked_div(u128::from(self.timed)).unwrap_or(0) as u64
    }
}

crate::pod!(Cost);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_were_not_timed_take_as_long_as_the_others() {
        let mut cost = Cost {
            runs: 30,
            timed: 2,
            timed_ns: 500,
        };
        cost.add(&Cost {
            runs: 10,
            timed: 2,
            timed_ns: 300,
        });
        assert_eq!(cost.total_ns(), 8_000);
        assert_eq!(Cost::default().total_ns(), 0);
    }
}
