//! Writes and checks one compressed, checksummed run of JSON lines, with bounds on its size.

use std::{
    fmt,
    io::{self, Read, Write},
    time::Duration,
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};

/// The first bytes of a recording; the control characters reveal a transfer in text mode.
pub(super) const MAGIC: [u8; 12] = *b"loopprobe\x1a\r\n";
/// The version of the format that this build writes and reads.
pub(super) const VERSION: u32 = 1;
/// A block is written after this long at the latest.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(250);
/// A block is written once it holds so many raw bytes: four deflate windows and more, for the
/// ratio.
pub(super) const FULL: usize = 256 << 10;
/// No block holds more raw bytes. A reader allocates no more for one, whatever a file claims.
pub(super) const MAX_RAW: usize = 4 << 20;
/// Deflate grows what it cannot compress by less than one part in a thousand.
const MAX_COMPRESSED: usize = MAX_RAW + MAX_RAW / 1000 + 64;
/// Three `u32`.
const HEAD_LEN: usize = 12;

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The file ends within it, as after a kill.
    Torn,
    /// Its lengths are impossible.
    Length,
    /// Its checksum does not fit.
    Checksum,
    /// It does not decompress to what it promises.
    Content,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torn => "the last block is incomplete",
            Self::Length => "a block has an impossible length",
            Self::Checksum => "a block's checksum does not fit",
            Self::Content => "a block does not decompress to events",
        })
    }
}

/// Writes `raw` as one block, in one `write`.
///
/// # Errors
///
/// Whatever writing gives.
pub(super) fn write(raw: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let mut block = vec![0; HEAD_LEN];
    let mut encoder = DeflateEncoder::new(&mut block, Compression::default());
    encoder.write_all(raw)?;
    encoder.finish()?;
    let compressed = &block[HEAD_LEN..];
    let head = [
        compressed.len() as u32,
        raw.len() as u32,
        crc32fast::hash(compressed),
    ];
    for (place, value) in block.chunks_exact_mut(4).zip(head) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    out.write_all(&block)
}

/// What a read at the start of a block found.
pub(super) enum Block {
    /// Its raw bytes.
    Whole(Vec<u8>),
    /// The end of the file.
    End,
    /// It cannot be read, nor what follows.
    Damaged(Damage),
}

/// Reads the next block.
///
/// # Errors
///
/// Whatever reading gives.
pub(super) fn read(input: &mut dyn Read) -> io::Result<Block> {
    let head = read_up_to(input, HEAD_LEN)?;
    if head.is_empty() {
        return Ok(Block::End);
    }
    let Ok(head) = <[u8; HEAD_LEN]>::try_from(head) else {
        return Ok(Block::Damaged(Damage::Torn));
    };
    let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let (compressed_len, raw_len) = (word(0) as usize, word(4) as usize);
    if compressed_len > MAX_COMPRESSED || raw_len > MAX_RAW {
        return Ok(Block::Damaged(Damage::Length));
    }
    let compressed = read_up_to(input, compressed_len)?;
    if compressed.len() < compressed_len {
        return Ok(Block::Damaged(Damage::Torn));
    }
    if crc32fast::hash(&compressed) != word(8) {
        return Ok(Block::Damaged(Damage::Checksum));
    }
    Ok(match inflate(&compressed, raw_len) {
        Some(raw) => Block::Whole(raw),
        None => Block::Damaged(Damage::Content),
    })
}

fn read_up_to(input: &mut dyn Read, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(len as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Exactly `raw_len` bytes, or nothing: a block that holds more than it promises is not read to its
/// end.
fn inflate(compressed: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    let limit = raw_len as u64 + 1;
    DeflateDecoder::new(compressed)
        .take(limit)
        .read_to_end(&mut raw)
        .ok()?;
    (raw.len() == raw_len).then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> Block {
        read(&mut &bytes[..]).unwrap()
    }

    #[test]
    fn a_block_reads_back() {
        let mut file = Vec::new();
        write(b"hello hello hello", &mut file).unwrap();
        let Block::Whole(raw) = read_all(&file) else {
            panic!("not whole");
        };
        assert_eq!(raw, b"hello hello hello");
    }

    #[test]
    fn a_decompression_bomb_is_not_inflated() {
        let mut file = Vec::new();
        write(&vec![0; MAX_RAW], &mut file).unwrap();
        assert!(matches!(read_all(&file), Block::Whole(..)));
        file[4..8].copy_from_slice(&10_u32.to_le_bytes());
        assert!(matches!(read_all(&file), Block::Damaged(Damage::Content)));
        file[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read_all(&file), Block::Damaged(Damage::Length)));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let mut file = Vec::new();
        write(b"some text, some text", &mut file).unwrap();
        for len in 1..file.len() {
            assert!(matches!(
                read_all(&file[..len]),
                Block::Damaged(Damage::Torn)
            ));
        }
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read_all(&flipped), Block::Damaged(_)), "bit {bit}");
        }
    }
}
