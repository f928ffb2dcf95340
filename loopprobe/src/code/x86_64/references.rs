//! Which instructions load given addresses, found byte by byte in milliseconds, undecoded.

use std::{collections::HashSet, ops::Range};

use crate::elf::{Image, VirtAddr};

/// The longest of those instructions, in bytes.
const INSTRUCTION: usize = 7;

/// Finds the instructions that load one of `targets`: `lea target(%rip), %reg`, and in a
/// fixed-address image `mov $target, %reg`.
///
/// This looks at every byte of the code and decodes nothing, so it takes milliseconds, and may
/// rarely report bytes that only look like such an instruction. Returns (address of the instruction
/// or of its last prefix, target).
pub(in crate::code) fn references(
    image: &Image,
    targets: &HashSet<VirtAddr>,
) -> Vec<(VirtAddr, VirtAddr)> {
    let Some((low, high)) = targets.iter().min().zip(targets.iter().max()) else {
        return Vec::new();
    };
    let wanted = |target: VirtAddr| {
        (*low <= target && target <= *high && targets.contains(&target)).then_some(target)
    };
    let mut found = Vec::new();
    for range in image.executable_ranges() {
        let mut pieces = image.pieces(range, 0, INSTRUCTION - 1);
        while let Some(piece) = pieces.next() {
            for (index, window) in piece.bytes.windows(INSTRUCTION).enumerate() {
                let at = piece.address(index);
                let target = match window {
                    [0x48 | 0x4c, 0x8d, register, distance @ ..] if register & 0xc7 == 0x05 => {
                        VirtAddr((at.0 + 7).wrapping_add_signed(i64::from(le_u32(distance) as i32)))
                    }
                    [0xb8..=0xbf, value @ ..] if image.has_fixed_address() => {
                        VirtAddr(le_u32(value).into())
                    }
                    [0xc7, 0xc0..=0xc7, value @ ..] if image.has_fixed_address() => {
                        VirtAddr(le_u32(value).into())
                    }
                    _ => continue,
                };
                found.extend(wanted(target).map(|target| (at, target)));
            }
        }
    }
    found
}

/// The addresses that the code in `range` refers to, ascending: what it loads with `lea`, and
/// tables that it jumps through.
pub(in crate::code) fn referred(image: &Image, range: &Range<VirtAddr>) -> Vec<VirtAddr> {
    let code = image.bytes_up_to(range.start, (range.end.0 - range.start.0) as usize);
    let target = |(index, window): (usize, &[u8])| match window {
        [0x48 | 0x4c, 0x8d, register, distance @ ..] if register & 0xc7 == 0x05 => Some(VirtAddr(
            (range.start.0 + index as u64 + 7)
                .wrapping_add_signed(i64::from(le_u32(distance) as i32)),
        )),
        [0xff, 0x24, index, address @ ..] if index & 0xc7 == 0xc5 => {
            Some(VirtAddr(le_u32(address).into()))
        }
        _ => None,
    };
    let mut targets: Vec<_> = code
        .windows(INSTRUCTION)
        .enumerate()
        .filter_map(target)
        .collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
