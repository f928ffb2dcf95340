//! Which polls are long: a fixed length of time, or one that is fitted to the process.

use std::time::Duration;

use super::AutoThreshold;

/// From which duration on a poll is long, as somebody chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// From this one on; zero makes every poll long.
    Fixed(Duration),
    /// Fitted to the process while the session runs.
    Auto(AutoThreshold),
}

impl Threshold {
    /// The duration that a session begins with.
    pub fn first(self) -> Duration {
        match self {
            Self::Fixed(duration) => duration,
            Self::Auto(bounds) => bounds.first(),
        }
    }

    /// The same, but never longer than `limit`: what is that long must be seen.
    #[must_use]
    pub fn at_most(self, limit: Duration) -> Self {
        match self {
            Self::Fixed(duration) => Self::Fixed(duration.min(limit)),
            Self::Auto(bounds) => Self::Auto(AutoThreshold {
                at_least: bounds.at_least.min(limit),
                at_most: bounds.at_most.min(limit),
            }),
        }
    }
}
