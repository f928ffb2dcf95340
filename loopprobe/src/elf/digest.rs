//! What tells one image from every other: a digest of all that is loaded, not the build id alone,
//! which whoever made the file may have chosen, and which a stripped copy shares.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::{FileState, Image, VirtAddr};

/// SHA-256 of an image.
pub type ImageDigest = [u8; 32];

impl Image {
    /// A digest of the headers, of every byte of the loadable segments, and of where the file has
    /// its sections. What is not loaded, symbols and debug information, is not in it. `None` where
    /// code was left out, and of a file that was written to. Takes a second for 2 GB.
    pub fn digest(&self) -> Option<&ImageDigest> {
        self.digest.get_or_init(|| self.compute_digest()).as_ref()
    }

    fn compute_digest(&self) -> Option<ImageDigest> {
        let mut digest = Sha256::new();
        let mut word = |word: u64| digest.update(word.to_le_bytes());
        word(self.file_len());
        word(self.has_fixed_address().into());
        for header in &self.known.headers {
            word(u64::from(header.kind) << 32 | u64::from(header.flags));
            word(header.offset);
            word(header.address.0);
            word(header.file_size);
            word(header.memory_size);
            word(header.align);
        }
        for segment in &self.segments {
            if segment.is_left_out() {
                return None;
            }
            digest.update(segment.len.to_le_bytes());
            self.add_bytes(segment.range(), &mut digest)?;
        }
        if let Ok(sections) = self.sections() {
            sections.add_table(&mut digest);
        }
        Some(digest.finalize().into())
    }

    /// What others may write to is held from now on: the digest is that of what is looked at later.
    /// Of what root alone may write to, and has not, it is that in any case.
    fn add_bytes(&self, range: Range<VirtAddr>, digest: &mut Sha256) -> Option<()> {
        if !self.known.source.is_roots() {
            self.bytes_up_to(range.start, (range.end.0 - range.start.0) as usize);
        }
        let (mut pieces, mut next) = (self.pieces(range.clone(), 0, 0), range.start);
        while let Some(piece) = pieces.next() {
            digest.update(piece.bytes);
            next = piece.address(piece.own.end);
        }
        (next == range.end).then_some(())
    }

    /// Whether nobody has written to the file since it was opened, as far as its times tell.
    pub fn is_as_opened(&self) -> bool {
        self.known.source.is_as_opened()
    }

    /// The file's state now; `None` of an image that was given as bytes.
    pub fn state(&self) -> Option<FileState> {
        self.known.source.state()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(bytes: Vec<u8>) -> ImageDigest {
        let image = Image::parse("x".as_ref(), bytes).unwrap();
        *image.digest().unwrap()
    }

    #[test]
    fn each_byte_that_is_loaded_counts_and_so_do_the_sections() {
        let bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        let image = Image::parse("x".as_ref(), bytes.clone()).unwrap();
        let original = *image.digest().unwrap();
        assert_eq!(of(bytes.clone()), original);
        for range in [image.executable_ranges().next(), image.data_ranges().last()] {
            let middle = crate::elf::VirtAddr(range.map(|r| r.start.0.midpoint(r.end.0)).unwrap());
            let mut changed = bytes.clone();
            changed[image.file_offset(middle).unwrap().0 as usize] ^= 1;
            assert_ne!(of(changed), original);
        }
        // `e_shoff`: a copy without its section headers.
        let mut stripped = bytes.clone();
        stripped[0x28..0x30].fill(0);
        stripped[0x3c..0x40].fill(0);
        assert_ne!(of(stripped), original);
        let mut longer = bytes;
        longer.push(0);
        assert_ne!(of(longer), original);
    }

    #[test]
    fn without_its_code_an_image_has_none() {
        let path = std::env::current_exe().unwrap();
        let image = Image::without_code(fs::File::open(&path).unwrap(), &path).unwrap();
        assert!(image.digest().is_none());
    }
}
