//! Damaged ELF files end in an error or a result: no panic, no hang, no huge allocation.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use loopprobe::{
    elf::Image,
    runtime::{RuntimeImage as _, tokio::discover},
};
use loopprobe_tests::matrix::{self, Build, Profile};
use loopprobe_tests::privileges::place;

/// An undamaged file takes some hundredths of a second, ten times that without optimisation on a
/// busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(20);
const CASES: u64 = 60;

/// A small generator of repeatable random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

fn look_at(bytes: Vec<u8>, case: &str) {
    let started = Instant::now();
    if let Ok(image) = Image::parse(Path::new("damaged"), bytes)
        && let Ok(found) = discover(&image)
    {
        let _ = found.watch_words(&image);
    }
    assert!(
        started.elapsed() < TIME_LIMIT,
        "{case} took {:?}",
        started.elapsed()
    );
}

/// Files with all that there is to misread: symbols, debug information, relocations, unwind tables.
fn originals() -> Result<Vec<Vec<u8>>> {
    let debug = Build {
        profile: Profile::DebugInfo,
        ..Build::DEFAULT
    };
    let paths = [
        matrix::target(debug, "zoo")?,
        matrix::target(Build::DEFAULT.stripped(), "zoo")?,
    ];
    paths.iter().map(|path| Ok(fs::read(path)?)).collect()
}

#[test]
fn files_cut_off_anywhere_are_refused_or_read() -> Result<()> {
    let _place = place()?;
    for (index, original) in originals()?.into_iter().enumerate() {
        let mut random = Random(7);
        for case in 0..CASES {
            // Half of the cuts fall into the headers.
            let limit = if case % 2 == 0 { 4096 } else { original.len() };
            let len = random.below(limit);
            look_at(
                original[..len].to_vec(),
                &format!("file {index} cut at {len}"),
            );
        }
    }
    Ok(())
}

#[test]
fn flipped_bits_are_survived() -> Result<()> {
    let _place = place()?;
    for (index, original) in originals()?.into_iter().enumerate() {
        for seed in 0..CASES {
            let (mut random, mut bytes) = (Random(seed), original.clone());
            for _ in 0..=random.below(64) {
                // Headers steer everything else, so they get most of the damage.
                let limit = [64, 1024, bytes.len(), bytes.len()][random.below(4)];
                let at = random.below(limit);
                bytes[at] ^= 1 << random.below(8);
            }
            look_at(bytes, &format!("file {index} seed {seed}"));
        }
    }
    Ok(())
}

#[test]
fn overwritten_words_are_survived() -> Result<()> {
    let _place = place()?;
    const WORDS: [u64; 6] = [0, 1, u64::MAX, 1 << 63, 0xffff_ffff, 0x1000];
    for (index, original) in originals()?.into_iter().enumerate() {
        for seed in 0..CASES {
            let (mut random, mut bytes) = (Random(1000 + seed), original.clone());
            for _ in 0..=random.below(16) {
                let limit = if random.below(2) == 0 {
                    1024
                } else {
                    bytes.len()
                };
                let at = random.below(limit) / 8 * 8;
                let word = WORDS[random.below(WORDS.len())].to_le_bytes();
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&word[..end - at]);
            }
            look_at(bytes, &format!("file {index} seed {seed}"));
        }
    }
    Ok(())
}
