//! Searches memory for words: those that point to a known vtable, as a task's third word does, and
//! given ones.

use std::{collections::HashSet, ops::Range};

use super::{header::VTABLE, layout::Layouts};
use crate::{elf::ProcAddr, process::Memory};

/// Read at once.
const CHUNK: usize = 1 << 20;
/// Headers that are kept.
const MAX_HEADERS: usize = 1 << 23;
/// Places of given words that are kept.
const MAX_PLACES: usize = 1 << 20;

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
    let mut headers = Vec::new();
    let (bytes, unread) = each_word(memory, ranges, |at, word| {
        if layouts.at(word).is_none() || headers.len() == MAX_HEADERS {
            return;
        }
        headers.extend(at.0.checked_sub(VTABLE).map(ProcAddr));
    });
    Scanned {
        headers,
        bytes,
        unread,
    }
}

/// The places of words that are one of these, and which.
pub(super) fn places_of(
    memory: &Memory,
    ranges: &[Range<ProcAddr>],
    wanted: &HashSet<u64>,
) -> Vec<(ProcAddr, u64)> {
    let mut found = Vec::new();
    let (Some(low), Some(high)) = (wanted.iter().min(), wanted.iter().max()) else {
        return found;
    };
    each_word(memory, ranges, |at, word| {
        let is_near = (*low..=*high).contains(&word);
        if is_near && found.len() < MAX_PLACES && wanted.contains(&word) {
            found.push((at, word));
        }
    });
    found
}

/// All words of these ranges; says how many bytes were read, and how many could not be.
fn each_word(
    memory: &Memory,
    ranges: &[Range<ProcAddr>],
    mut see: impl FnMut(ProcAddr, u64),
) -> (u64, u64) {
    let (mut bytes, mut unread) = (0, 0);
    let mut buffer = vec![0; CHUNK];
    for range in ranges {
        let mut at = range.start.0;
        while at < range.end.0 {
            let wanted = (range.end.0 - at).min(CHUNK as u64);
            let read = memory.read(ProcAddr(at), &mut buffer[..wanted as usize]) as u64;
            bytes += read;
            // Unmapped meanwhile, from there on to the end of its page at least.
            unread += wanted - read;
            let words = buffer[..read as usize].as_chunks().0.iter().enumerate();
            for (index, word) in words {
                see(ProcAddr(at + 8 * index as u64), u64::from_le_bytes(*word));
            }
            at += wanted;
        }
    }
    (bytes, unread)
}
