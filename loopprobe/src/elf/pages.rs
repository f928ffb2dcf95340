//! A part of a file that is read in blocks as they are asked for, and held as one piece of memory.

use std::{
    fmt,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::source::Source;

/// How much is read at a time, in bytes: functions that are looked at together lie near each other.
const BLOCK: usize = 16 << 10;

/// What is known of a block: it was not asked for yet.
const UNREAD: u8 = 0;
/// It is in memory, and stays as it is.
const READ: u8 = 1;
/// The file did not give it, and is not asked again.
const REFUSED: u8 = 2;

/// A part of a file. Addresses are set aside for all of it, memory only for what was asked for.
///
/// A block is read once: whoever looks at it twice sees the same, whatever became of the file.
pub(super) struct Pages {
    /// Raw: no reference goes to all of it, as others are being written.
    memory: MmapRaw,
    /// Where the part begins in the file.
    offset: u64,
    blocks: Box<[AtomicU8]>,
    /// Held by who reads.
    reading: Mutex<()>,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("offset", &self.offset)
            .field("len", &self.memory.len())
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

impl Pages {
    /// Of `len` bytes at `offset`, more than none; `None` if there are no addresses left for them.
    pub(super) fn of(offset: u64, len: usize) -> Option<Self> {
        let options = MmapOptions::new().len(len).no_reserve_swap().to_owned();
        let memory = MmapRaw::from(options.map_anon().ok()?);
        // Otherwise a block may take 2 MiB, where the machine is set so. Older kernels refuse.
        let _ = memory.advise(Advice::NoHugePage);
        let blocks = (0..len.div_ceil(BLOCK)).map(|_| AtomicU8::new(UNREAD));
        Some(Self {
            memory,
            offset,
            blocks: blocks.collect(),
            reading: Mutex::new(()),
        })
    }

    /// At most `len` bytes from `start` on: fewer where the part ends, or the file gives no more.
    pub(super) fn get(&self, source: &Source, start: usize, len: usize) -> &[u8] {
        let end = start.saturating_add(len).min(self.memory.len());
        if start >= end {
            return &[];
        }
        let there = self.read(source, start / BLOCK..end.div_ceil(BLOCK));
        self.slice(start, end.min(there * BLOCK))
    }

    /// The same if all of it is in memory already.
    pub(super) fn if_held(&self, start: usize, len: usize) -> Option<&[u8]> {
        let end = start.checked_add(len)?;
        let mut wanted = self.blocks.get(start / BLOCK..end.div_ceil(BLOCK))?.iter();
        let is_there = wanted.all(|block| block.load(Ordering::Acquire) == READ);
        (is_there && end <= self.memory.len()).then(|| self.slice(start, end))
    }

    /// How much memory it takes, in bytes.
    pub(super) fn held(&self) -> usize {
        let is_read = |block: &&AtomicU8| block.load(Ordering::Relaxed) == READ;
        self.blocks.iter().filter(is_read).count() * BLOCK
    }

    /// Bytes of blocks that have been read.
    fn slice(&self, start: usize, end: usize) -> &[u8] {
        if start >= end {
            return &[];
        }
        // SAFETY: the range lies in the mapping, which lives as long as `self`. All its blocks are
        // marked as read, which was seen with `Acquire` after they were written, and none of those
        // is ever written again.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(start), end - start) }
    }

    /// Reads the blocks that are missing; the first one that is not there then, or the end.
    fn read(&self, source: &Source, wanted: Range<usize>) -> usize {
        let mut next = wanted.start;
        while next < wanted.end {
            match self.blocks[next].load(Ordering::Acquire) {
                READ => next += 1,
                REFUSED => break,
                _ => self.read_missing(source, next..wanted.end),
            }
        }
        next
    }

    /// Reads the first of these blocks, and those after it up to one that is not missing.
    fn read_missing(&self, source: &Source, wanted: Range<usize>) {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let is_missing = |block: &usize| self.blocks[*block].load(Ordering::Relaxed) == UNREAD;
        let missing = wanted.clone().take_while(is_missing).count();
        let all = wanted.start..wanted.start + missing;
        if missing == 0 || self.fill(source, all.clone()) {
            return;
        }
        // Of a file that was cut short, what is still there.
        for block in all {
            if !self.fill(source, block..block + 1) {
                self.blocks[block].store(REFUSED, Ordering::Release);
            }
        }
    }

    /// Reads blocks that nobody has seen yet. The lock must be held.
    fn fill(&self, source: &Source, blocks: Range<usize>) -> bool {
        let start = blocks.start * BLOCK;
        let end = (blocks.end * BLOCK).min(self.memory.len());
        // SAFETY: the range lies in the mapping, which can be written to. Its blocks are not marked
        // as read, so there is no reference to them, and who holds the lock is the only one here.
        let memory = unsafe {
            let first = self.memory.as_mut_ptr().add(start);
            std::slice::from_raw_parts_mut(first, end - start)
        };
        if !source.read_into(memory, self.offset + start as u64) {
            return false;
        }
        for block in blocks {
            self.blocks[block].store(READ, Ordering::Release);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _, path::Path, thread};

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    const LEN: usize = 5 * BLOCK + 100;

    /// A file whose bytes tell where they are, and the pages of it from the tenth byte on.
    fn pages() -> (File, Source, Pages) {
        let file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
        let bytes: Vec<u8> = (0..LEN + 10).map(byte).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let source = Source::from_file(file.try_clone().unwrap(), Path::new("test")).unwrap();
        (file, source, Pages::of(10, LEN).unwrap())
    }

    fn byte(at: usize) -> u8 {
        (at % 251) as u8
    }

    #[test]
    fn only_what_is_asked_for_is_read_and_it_is_the_files() {
        let (_, source, pages) = pages();
        assert_eq!(pages.held(), 0);
        for (start, len) in [(0, 1), (BLOCK - 1, 2), (3, 7), (LEN - 5, 100), (LEN, 4)] {
            let end = (start + len).min(LEN);
            let expected: Vec<u8> = (start..end).map(|at| byte(at + 10)).collect();
            assert_eq!(pages.get(&source, start, len), expected);
        }
        assert_eq!(pages.held(), 3 * BLOCK);
        assert!(pages.if_held(0, 2 * BLOCK).is_some());
        assert!(pages.if_held(0, 2 * BLOCK + 1).is_none());
        assert!(pages.if_held(LEN - 5, 6).is_none());
    }

    #[test]
    fn of_a_file_that_was_cut_short_there_is_what_was_read_before() {
        let (file, source, pages) = pages();
        assert_eq!(pages.get(&source, BLOCK, 1).len(), 1);
        file.set_len(BLOCK as u64).unwrap();
        assert_eq!(pages.get(&source, BLOCK, 2 * BLOCK).len(), BLOCK);
        assert!(pages.get(&source, 4 * BLOCK, 1).is_empty());
        // Not even once it is as long as before.
        file.set_len(LEN as u64 + 10).unwrap();
        assert!(pages.get(&source, 4 * BLOCK, 1).is_empty());
    }

    #[test]
    fn a_file_that_was_written_to_gives_nothing_more() {
        let (file, source, pages) = pages();
        assert_eq!(pages.get(&source, 0, 1), [byte(10)]);
        // Times of files have the grain of the kernel's clock.
        while source.is_as_opened() {
            file.write_all_at(&[0xff; 20], 0).unwrap();
        }
        assert_eq!(pages.get(&source, 0, 1), [byte(10)]);
        assert!(pages.get(&source, BLOCK, 1).is_empty());
    }

    #[test]
    fn threads_that_ask_for_the_same_see_the_same() {
        let (_, source, pages) = pages();
        let all: Vec<u8> = (0..LEN).map(|at| byte(at + 10)).collect();
        thread::scope(|scope| {
            for first in 0..8 {
                let (pages, source, all) = (&pages, &source, &all);
                scope.spawn(move || {
                    for start in (first * 911..LEN).step_by(3000) {
                        let len = 4000.min(LEN - start);
                        assert_eq!(pages.get(source, start, len), &all[start..start + len]);
                    }
                });
            }
        });
    }
}
