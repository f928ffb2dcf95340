//! Passes over an image, of which nothing is held.

use std::{borrow::Cow, ops::Range};

use super::{Image, VirtAddr};

/// How much a pass sees at a time, in bytes: little enough to stay in the processor's cache.
const PIECE: u64 = 256 << 10;

/// A piece of an image.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The address of the first of its bytes.
    start: VirtAddr,
    /// Its own bytes, and those around it that were asked for.
    pub bytes: &'a [u8],
    /// Which of them are its own: each byte of the range is one piece's own.
    pub own: Range<usize>,
}

impl Piece<'_> {
    /// The address of one of its bytes.
    pub fn address(&self, at: usize) -> VirtAddr {
        VirtAddr(self.start.0.wrapping_add(at as u64))
    }

    /// Its own bytes and those behind them.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.own.start..]
    }
}

/// A range of an image, piece by piece. It ends early where the file gives no more.
#[derive(Debug)]
pub struct Pieces<'a> {
    image: &'a Image,
    range: Range<VirtAddr>,
    next: VirtAddr,
    before: u64,
    behind: u64,
    buffer: Vec<u8>,
}

impl Pieces<'_> {
    /// The next one.
    #[expect(clippy::should_implement_trait, reason = "a piece lends the buffer")]
    pub fn next(&mut self) -> Option<Piece<'_>> {
        let (first, limit) = (self.next.0, self.range.end.0);
        if first >= limit {
            return None;
        }
        let end = limit.min(first.saturating_add(PIECE));
        self.next = VirtAddr(end);
        let start = self.range.start.0.max(first.saturating_sub(self.before));
        let until = limit.min(end.saturating_add(self.behind));
        let wanted = (until - start) as usize;
        let bytes = self
            .image
            .bytes_apart(VirtAddr(start), wanted, &mut self.buffer);
        let own = (first - start) as usize..bytes.len().min((end - start) as usize);
        (own.start < own.end).then_some(Piece {
            start: VirtAddr(start),
            bytes,
            own,
        })
    }
}

impl Image {
    /// Passes over a range of one segment, of whose pieces each shows so many bytes before and
    /// behind it too. What is not in memory is read for the pass alone.
    pub fn pieces(&self, range: Range<VirtAddr>, before: usize, behind: usize) -> Pieces<'_> {
        Pieces {
            image: self,
            next: range.start,
            range,
            before: before as u64,
            behind: behind as u64,
            buffer: Vec::new(),
        }
    }

    /// The bytes of [`Image::bytes_up_to`]: those that are held, or else in `buffer`.
    fn bytes_apart<'a>(
        &'a self,
        address: VirtAddr,
        len: usize,
        buffer: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        if let Some(held) = self.bytes_if_held(address, len) {
            return held;
        }
        let (Some(offset), Some(segment)) = (self.file_offset(address), self.segment(address))
        else {
            return &[];
        };
        let left = segment.range().end.0 - address.0;
        buffer.resize(len.min(left as usize), 0);
        match self.known.source.read_into(buffer, offset.0) {
            true => buffer,
            false => &[],
        }
    }

    /// The same if they are in memory already.
    fn bytes_if_held(&self, address: VirtAddr, len: usize) -> Option<&[u8]> {
        let segment = self.segment(address)?;
        segment.if_held(&self.known.source, address, len)
    }

    /// The same bytes as [`Image::bytes_up_to`], for who needs many of them once.
    pub(super) fn copied(&self, address: VirtAddr, len: usize) -> Cow<'_, [u8]> {
        let mut buffer = Vec::new();
        match self.bytes_if_held(address, len) {
            Some(bytes) => Cow::Borrowed(bytes),
            None => {
                let found = self.bytes_apart(address, len, &mut buffer).len();
                buffer.truncate(found);
                Cow::Owned(buffer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use memchr::memmem;

    use super::*;

    fn own() -> (Image, Image) {
        let path = Path::new("/proc/self/exe");
        let bytes = std::fs::read(path).unwrap();
        let read = Image::open(path).unwrap();
        (read, Image::parse(path, bytes).unwrap())
    }

    #[test]
    fn pieces_are_the_same_bytes_and_none_is_held() {
        let (image, whole) = own();
        let code = image.executable_ranges().last().unwrap();
        let held = image.held();
        let mut pieces = image.pieces(code.clone(), 3, 9);
        let (mut next, mut count) = (code.start, 0);
        while let Some(piece) = pieces.next() {
            assert_eq!(piece.address(piece.own.start), next);
            let len = piece.bytes.len();
            assert_eq!(whole.bytes_at(piece.address(0), len), Some(piece.bytes));
            assert_eq!(piece.own.start, if count == 0 { 0 } else { 3 });
            next = piece.address(piece.own.end);
            count += 1;
        }
        assert_eq!(next, code.end);
        assert!(count > 3);
        assert_eq!(image.held(), held);
    }

    #[test]
    fn what_lies_across_two_pieces_is_found_once() {
        let (image, whole) = own();
        let code = image.executable_ranges().last().unwrap();
        let needle = [0xe8, 0x00];
        let len = (code.end.0 - code.start.0) as usize;
        let all = whole.bytes_up_to(code.start, len);
        let expected = memmem::find_iter(all, &needle).count();
        let (mut pieces, mut found) = (image.pieces(code, 0, needle.len() - 1), 0);
        while let Some(piece) = pieces.next() {
            found += memmem::find_iter(piece.rest(), &needle).count();
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn a_copy_is_as_long_as_the_segment_is() {
        let (image, whole) = own();
        let code = image.executable_ranges().last().unwrap();
        let at = VirtAddr(code.end.0 - 1000);
        assert_eq!(image.copied(at, 5000), whole.copied(at, 5000));
        assert_eq!(image.copied(at, 5000).len(), 1000);
        assert!(image.copied(VirtAddr(u64::MAX), 8).is_empty());
    }
}
