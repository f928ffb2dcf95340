//! Searches memory for words that point to a known vtable, as a task's third word does.

use std::ops::Range;

use super::{header::VTABLE, layout::Layouts};
use crate::{elf::ProcAddr, process::Memory};

/// Read at once.
const CHUNK: usize = 1 << 20;
/// Headers that are kept.
const MAX_HEADERS: usize = 1 << 23;

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Where a word points to a vtable, as that of a header does: tasks, copies of them, and what
    /// is left of them.
    pub headers: Vec<ProcAddr>,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes that could not be.
    pub unread: u64,
}

/// Looks for headers in memory.
pub(super) fn scan(memory: &Memory, ranges: &[Range<ProcAddr>], layouts: &Layouts) -> Scanned {
    let mut found = Scanned::default();
    let mut buffer = vec![0; CHUNK];
    for range in ranges {
        let mut at = range.start.0;
        while at < range.end.0 {
            let wanted = (range.end.0 - at).min(CHUNK as u64);
            let read = memory.read(ProcAddr(at), &mut buffer[..wanted as usize]) as u64;
            found.bytes += read;
            if read < wanted {
                // Unmapped meanwhile, from there on to the end of its page at least.
                found.unread += wanted - read;
            }
            found.look(at, &buffer[..read as usize], layouts);
            at += wanted;
        }
    }
    found
}

impl Scanned {
    fn look(&mut self, at: u64, bytes: &[u8], layouts: &Layouts) {
        for (index, word) in bytes.as_chunks().0.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            if layouts.at(word).is_none() {
                continue;
            }
            let header = (at + 8 * index as u64).checked_sub(VTABLE);
            if let Some(header) = header.filter(|_| self.headers.len() < MAX_HEADERS) {
                self.headers.push(ProcAddr(header));
            }
        }
    }
}
