//! Heaps and stacks that lie in RAM, from `pagemap`: what can be read without paging it in.

use std::{
    fs::{self, File},
    ops::Range,
    os::unix::fs::FileExt as _,
};

use super::{PAGE, ProcessError, maps::anonymous};
use crate::elf::ProcAddr;

/// The anonymous writable memory of a process that lies in RAM: its heaps and stacks.
///
/// Pages that were never touched, or are swapped out, are left alone: reading them would give the
/// process page tables, or bring them back in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// What can be read without changing anything, by address.
    pub ranges: Vec<Range<ProcAddr>>,
    /// Bytes that are swapped out.
    pub swapped: u64,
    /// Bytes of which it cannot be told.
    pub unknown: u64,
}

/// An entry's flags. Source: `Documentation/admin-guide/mm/pagemap.rst`.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Entries read at once.
const CHUNK: usize = 1 << 15;
/// Larger address ranges are looked at no further: 512 GiB take two seconds, and are no heap.
const MAX_PAGES: u64 = 1 << 27;

/// Finds it.
///
/// # Errors
///
/// [`ProcessError`] if the process is gone, or its memory map cannot be read.
pub fn resident(pid: u32) -> Result<Resident, ProcessError> {
    const FILE: &str = "maps";
    let text = fs::read(format!("/proc/{pid}/{FILE}"))
        .map_err(|error| ProcessError::reading(pid, FILE, error))?;
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).ok();
    let mut found = Resident::default();
    let mut pages_left = MAX_PAGES;
    for range in anonymous(&text) {
        let pages = (range.end.0 - range.start.0) / PAGE;
        match pagemap.as_ref().filter(|_| pages <= pages_left) {
            Some(pagemap) => {
                pages_left -= pages;
                found.add(pagemap, &range);
            }
            None => found.unknown += pages * PAGE,
        }
    }
    Ok(found)
}

impl Resident {
    /// The pages of one range that are there.
    fn add(&mut self, pagemap: &File, range: &Range<ProcAddr>) {
        let mut entries = vec![0; CHUNK * size_of::<u64>()];
        let mut page = range.start.0 / PAGE;
        let end = range.end.0 / PAGE;
        while page < end {
            let wanted = usize::try_from(end - page).map_or(CHUNK, |left| left.min(CHUNK));
            let entries = &mut entries[..wanted * size_of::<u64>()];
            let read = pagemap.read_at(entries, page * 8).unwrap_or(0) / size_of::<u64>();
            if read == 0 {
                self.unknown += (end - page) * PAGE;
                return;
            }
            for entry in &entries.as_chunks().0[..read] {
                self.page(page, u64::from_le_bytes(*entry));
                page += 1;
            }
        }
    }

    fn page(&mut self, page: u64, entry: u64) {
        if entry & SWAPPED != 0 {
            self.swapped += PAGE;
        }
        if entry & PRESENT == 0 {
            return;
        }
        let (start, end) = (ProcAddr(page * PAGE), ProcAddr((page + 1) * PAGE));
        match self.ranges.last_mut().filter(|last| last.end == start) {
            Some(last) => last.end = end,
            None => self.ranges.push(start..end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(found: &Resident, address: u64) -> bool {
        let address = ProcAddr(address);
        found.ranges.iter().any(|range| range.contains(&address))
    }

    #[test]
    fn only_pages_that_were_touched_are_found() {
        let length = 64 * PAGE as usize;
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new anonymous mapping, which nothing else uses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: the mapping is that large, and too small for a huge page.
        unsafe { start.cast::<u8>().add(5 * PAGE as usize).write(1) };
        let at = start as u64;
        let found = resident(std::process::id()).unwrap();
        assert!(holds(&found, at + 5 * PAGE));
        assert!(!holds(&found, at + 20 * PAGE));
        let local = Box::new(7_u64);
        assert!(holds(&found, &raw const *local as u64));
        // SAFETY: it was mapped above, and is used no more.
        unsafe { libc::munmap(start, length) };
    }

    #[test]
    fn runs_of_pages_are_joined() {
        let mut found = Resident::default();
        for (page, entry) in [(1, PRESENT), (2, PRESENT), (3, SWAPPED), (4, PRESENT)] {
            found.page(page, entry);
        }
        let page = |number: u64| ProcAddr(number * PAGE);
        assert_eq!(found.ranges, [page(1)..page(3), page(4)..page(5)]);
        assert_eq!(found.swapped, PAGE);
    }
}
