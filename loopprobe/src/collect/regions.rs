//! The stacks of a process's threads, as regions of its memory.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use crate::process::region_at;

/// An address in no region that is known must wait this long before the process's memory map is
/// read again.
const READ_INTERVAL: Duration = Duration::from_millis(50);
/// More than threads can be tracked.
const MAX_REGIONS: usize = 4096;

/// Regions that hold the stacks on which polls began. A thread's stack stays where it is as long as
/// the thread lives; a first thread's grows downwards.
#[derive(Debug)]
pub(super) struct Regions {
    pid: u32,
    known: Vec<Range<u64>>,
    last_read: Option<Instant>,
}

impl Regions {
    /// For a process.
    pub(super) fn of(pid: u32) -> Self {
        Self {
            pid,
            known: Vec::new(),
            last_read: None,
        }
    }

    /// The region around an address; `None` if it is not known.
    pub(super) fn of_address(&mut self, address: u64) -> Option<Range<u64>> {
        if let Some(known) = self.known.iter().find(|region| region.contains(&address)) {
            return Some(known.clone());
        }
        if self
            .last_read
            .is_some_and(|last| last.elapsed() < READ_INTERVAL)
        {
            return None;
        }
        self.last_read = Some(Instant::now());
        let found = region_at(self.pid, address)?;
        if self.known.len() >= MAX_REGIONS {
            self.known.clear();
        }
        self.known.push(found.clone());
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_variable_and_the_heap_lie_in_different_regions() {
        let local = 0_u64;
        let heap = Box::new(0_u64);
        let mut regions = Regions::of(std::process::id());
        let here = std::ptr::from_ref(&local) as u64;
        let region = regions.of_address(here).expect("a stack");
        assert!(region.contains(&here));
        assert!(!region.contains(&(std::ptr::from_ref(&*heap) as u64)));
        assert_eq!(regions.of_address(here), Some(region));
        assert_eq!(regions.of_address(0), None);
    }
}
