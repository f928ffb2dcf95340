//! Whether a process has mapped something since it was last asked.

use std::time::{Duration, Instant};

use super::Gauge;

/// What is unmapped and mapped anew at the same size is seen after this long.
const AT_MOST: Duration = Duration::from_secs(2);

/// Tells when a process's memory map is to be read again: to say how large it is takes the kernel
/// far less.
#[derive(Debug, Default)]
pub struct MapWatch {
    /// At the last look: pages, and when.
    last: Option<(u64, Instant)>,
    /// Of which process, and how much it has mapped.
    statm: Option<(u32, Gauge)>,
}

impl MapWatch {
    /// Whether the map of `pid` is to be read: it has never been, it has another size, or the last
    /// time is two seconds ago. It is taken for read.
    pub fn is_due(&mut self, pid: u32) -> bool {
        let pages = self.pages(pid);
        self.is_due_with(pages, Instant::now())
    }

    /// How much a process has mapped: the first number of `/proc/PID/statm` (proc_pid_statm(5)).
    fn pages(&mut self, pid: u32) -> Option<u64> {
        if self.statm.as_ref().is_none_or(|(of, _)| *of != pid) {
            let gauge = Gauge::open(format!("/proc/{pid}/statm")).ok();
            self.statm = gauge.map(|gauge| (pid, gauge));
        }
        let (_, gauge) = self.statm.as_ref()?;
        gauge.read()?.split(' ').next()?.parse().ok()
    }

    fn is_due_with(&mut self, pages: Option<u64>, now: Instant) -> bool {
        let known = self
            .last
            .filter(|(_, read)| now.duration_since(*read) < AT_MOST);
        if known.is_some_and(|(last, _)| Some(last) == pages) {
            return false;
        }
        self.last = pages.map(|pages| (pages, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_when_its_size_changes_and_now_and_then() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut watch = MapWatch::default();
        assert!(watch.is_due_with(Some(7), at(0)));
        assert!(!watch.is_due_with(Some(7), at(250)));
        assert!(watch.is_due_with(Some(8), at(500)));
        assert!(!watch.is_due_with(Some(8), at(2400)));
        assert!(watch.is_due_with(Some(8), at(2500)));
        assert!(watch.is_due_with(None, at(2600)));
        assert!(watch.is_due_with(Some(8), at(2700)), "not known before");
    }

    #[test]
    fn what_this_process_maps_is_seen() {
        let pid = std::process::id();
        let mut watch = MapWatch::default();
        let before = watch.pages(pid).expect("its own");
        let mapped = vec![0u8; 64 << 20];
        assert!(watch.pages(pid).expect("its own") >= before + (mapped.len() as u64 >> 13));
    }
}
