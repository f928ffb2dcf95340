use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Changes the threshold of a session that runs. Clones turn the same session's.
#[derive(Clone, Debug, Default)]
pub struct ThresholdDial(Arc<AtomicU64>);

/// No threshold is so long.
const UNTURNED: u64 = 0;

impl ThresholdDial {
    /// Polls at least this long are to be reported, in nanoseconds; at least one.
    pub fn set(&self, threshold_ns: u64) {
        self.0.store(threshold_ns.max(1), Ordering::Relaxed);
    }

    /// The threshold that was set since the last call, if any.
    pub fn take(&self) -> Option<u64> {
        match self.0.swap(UNTURNED, Ordering::Relaxed) {
            UNTURNED => None,
            threshold_ns => Some(threshold_ns),
        }
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
        assert_eq!(dial.take(), Some(1));
        assert_eq!(dial.take(), None);
    }
}
