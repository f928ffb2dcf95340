//! Words around a place of another process's memory.

use crate::{elf::ProcAddr, process::Memory};

/// So many words before a place, and as many from it on.
const WORDS: i64 = 8;

/// The words around a place.
#[derive(Clone, Debug)]
pub(super) struct Around {
    place: ProcAddr,
    words: [u64; 2 * WORDS as usize],
}

impl Around {
    /// Reads them.
    pub(super) fn read(memory: &Memory, place: ProcAddr) -> Option<Self> {
        let first = ProcAddr(place.0.checked_sub(8 * WORDS as u64)?);
        let mut words = [0; 2 * WORDS as usize];
        let read = memory.places(&[(first, words.len())], &mut words);
        (read == 1).then_some(Self { place, words })
    }

    /// The word that is so many words behind the place, or before it: from -8 to 7.
    pub(super) fn word(&self, distance: i64) -> u64 {
        self.words[(WORDS + distance) as usize]
    }

    /// Where that word lies.
    pub(super) fn at(&self, distance: i64) -> ProcAddr {
        ProcAddr(self.place.0.wrapping_add_signed(8 * distance))
    }
}

/// Words from a place on: so many, or less where what follows its page cannot be read.
pub(super) fn words(memory: &Memory, address: ProcAddr, most: usize) -> Vec<u64> {
    let mut bytes = vec![0; most * 8];
    let to_page_end = 4096 - (address.0 % 4096) as usize;
    let whole = memory.read(address, &mut bytes);
    let read = match whole {
        0 => memory.read(address, &mut bytes[..to_page_end.min(most * 8)]),
        read => read,
    };
    let words = bytes[..read].as_chunks().0.iter();
    words.map(|word| u64::from_le_bytes(*word)).collect()
}

/// Whether a word may point to something that has words itself.
pub(super) fn is_pointer(word: u64) -> bool {
    word >= 0x1000 && word.is_multiple_of(8) && word >> 47 == 0
}
