//! The threshold, in nanoseconds, as another thread may change it while a session runs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::Threshold;

/// Changes the threshold of a session that runs. Clones turn the same session's.
#[derive(Clone, Debug, Default)]
pub struct ThresholdDial(Arc<Mutex<Option<Threshold>>>);

impl ThresholdDial {
    /// Polls at least this long are to be reported, in nanoseconds; at least one.
    pub fn set(&self, threshold_ns: u64) {
        self.turn(Threshold::Fixed(Duration::from_nanos(threshold_ns.max(1))));
    }

    /// Polls are to be long from here on.
    pub fn turn(&self, threshold: Threshold) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(threshold);
    }

    /// The threshold that was set since the last call, if any.
    pub fn take(&self) -> Option<Threshold> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_taken_once() {
        let dial = ThresholdDial::default();
        assert_eq!(dial.take(), None);
        dial.clone().set(0);
        let least = Threshold::Fixed(Duration::from_nanos(1));
        assert_eq!(dial.take(), Some(least));
        assert_eq!(dial.take(), None);
    }
}
