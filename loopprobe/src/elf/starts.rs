//! Where functions begin in code that `.eh_frame` does not describe: where it is called, and where
//! pointers lead.
//!
//! Calls are found by their first byte, and nothing else is decoded, so bytes that only look like a
//! call lead into the middle of functions. A start is believed if several calls or a pointer lead
//! there, or if it looks like one. A start too many cuts a function short; one that is missing
//! makes two functions one, which is why a call from anywhere counts.

use std::ops::Range;

use super::{Architecture, FunctionTable, Image, VirtAddr, header::u32_at};

/// A start is the function of no code further away than this.
const LONGEST: u64 = 1 << 20;
/// More calls than this are not looked at: programs of 100 MB have about two million.
const MAX_CALLS: usize = 1 << 22;
/// `call rel32` of x86-64.
const CALL: u8 = 0xe8;

/// Where functions begin, in ascending order.
#[derive(Debug, Default)]
pub(super) struct Starts(Vec<VirtAddr>);

impl Starts {
    /// Passes once over the code.
    pub(super) fn find(image: &Image) -> Self {
        let mut called = calls(image);
        called.sort_unstable();
        let mut starts: Vec<VirtAddr> = image
            .pointers()
            .map(|(_, to)| to)
            .filter(|to| image.is_code(*to))
            .collect();
        starts.extend(believed(image, &called));
        starts.sort_unstable();
        starts.dedup();
        starts.shrink_to_fit();
        Self(starts)
    }

    /// The function around `address`: from its start to the next one's.
    pub(super) fn at(&self, image: &Image, address: VirtAddr) -> Option<Range<VirtAddr>> {
        let after = self.0.partition_point(|start| *start <= address);
        let start = *self.0[..after].last()?;
        let code = image
            .executable_ranges()
            .find(|range| range.contains(&start))?;
        let limit = code.end.min(VirtAddr(start.0.saturating_add(LONGEST)));
        let end = self.0.get(after).map_or(limit, |next| limit.min(*next));
        (address < end).then_some(start..end)
    }
}

impl Image {
    /// The functions that `.eh_frame` describes.
    pub fn functions(&self) -> &FunctionTable {
        self.known
            .functions
            .get_or_init(|| FunctionTable::read(self))
    }

    /// The function around `address`, as `.eh_frame` gives it, or, where that describes less than
    /// half of the code, as calls and pointers tell where it begins. Then it may be cut short, or
    /// hold another one that nothing calls.
    pub fn function_at(&self, address: VirtAddr) -> Option<Range<VirtAddr>> {
        let described = self.functions().at(address);
        described.or_else(|| self.starts()?.at(self, address))
    }

    fn starts(&self) -> Option<&Starts> {
        let starts = self.known.starts.get_or_init(|| {
            let code = self
                .executable_ranges()
                .map(|range| range.end.0 - range.start.0);
            let is_described = self.functions().covered() * 2 >= code.sum();
            (!is_described).then(|| Starts::find(self))
        });
        starts.as_ref()
    }
}

/// Where calls lead, each as often as it is called.
fn calls(image: &Image) -> Vec<VirtAddr> {
    let mut targets = Vec::new();
    for range in image.executable_ranges() {
        // Most lead into the same segment.
        let is_code = |target: &VirtAddr| range.contains(target) || image.is_code(*target);
        let mut pieces = image.pieces(range.clone(), 0, 4);
        while let Some(piece) = pieces.next() {
            let room = MAX_CALLS - targets.len();
            match image.architecture() {
                Architecture::X86_64 => {
                    let called = calls_x86_64(piece.bytes, piece.address(0)).filter(is_code);
                    targets.extend(called.take(room));
                }
                Architecture::Aarch64 => {
                    let (own, start) = (piece.own.clone(), piece.address(piece.own.start));
                    let called = calls_aarch64(&piece.bytes[own], start).filter(is_code);
                    targets.extend(called.take(room));
                }
            }
        }
    }
    targets
}

fn calls_x86_64(code: &[u8], start: VirtAddr) -> impl Iterator<Item = VirtAddr> {
    memchr::memchr_iter(CALL, code).filter_map(move |at| {
        let distance = code[at + 1..].first_chunk::<4>()?;
        let next = start.0 + at as u64 + 5;
        Some(VirtAddr(
            next.wrapping_add_signed(i32::from_le_bytes(*distance).into()),
        ))
    })
}

/// `bl`: bits 31 to 26 are 100101, the others a distance in words. Source: Arm Architecture
/// Reference Manual (DDI 0487), C6.2.
fn calls_aarch64(code: &[u8], start: VirtAddr) -> impl Iterator<Item = VirtAddr> {
    let words = code.chunks_exact(4).enumerate();
    words.filter_map(move |(index, word)| {
        let word = u32_at(word, 0).filter(|word| word >> 26 == 0b10_0101)?;
        let distance = (word << 6).cast_signed() >> 4;
        let at = start.0 + 4 * index as u64;
        Some(VirtAddr(at.wrapping_add_signed(distance.into())))
    })
}

/// Of the addresses that are called, in ascending order, those that are starts: several calls lead
/// there, or it looks like one.
fn believed(image: &Image, called: &[VirtAddr]) -> Vec<VirtAddr> {
    let mut believed = Vec::new();
    let mut by_target = called.chunk_by(|one, other| one == other).peekable();
    for range in image.executable_ranges() {
        let mut pieces = image.pieces(range, 4, 3);
        while let Some(piece) = pieces.next() {
            let end = piece.address(piece.own.end);
            while let Some(calls) = by_target.next_if(|calls| calls[0] < end) {
                let at = calls[0].0.wrapping_sub(piece.address(0).0) as usize;
                if calls.len() > 1 || looks_like_start(image.architecture(), piece.bytes, at) {
                    believed.push(calls[0]);
                }
            }
        }
    }
    believed
}

/// Whether code at an index begins as functions do, or follows the end of one.
fn looks_like_start(architecture: Architecture, code: &[u8], at: usize) -> bool {
    match architecture {
        Architecture::X86_64 => looks_like_start_x86_64(code, at),
        Architecture::Aarch64 => looks_like_start_aarch64(code, at),
    }
}

fn looks_like_start_aarch64(code: &[u8], at: usize) -> bool {
    let Some(first) = u32_at(code, at) else {
        return false;
    };
    // stp x29, x30, [sp, #-N]!; sub sp, sp, #N; paciasp; bti c.
    let begins = first & 0xffc0_7fff == 0xa980_7bfd
        || first & 0xff80_03ff == 0xd100_03ff
        || matches!(first, 0xd503_233f | 0xd503_245f);
    // ret; brk; udf; nop; b.
    let before = at.checked_sub(4).and_then(|before| u32_at(code, before));
    let follows = before.is_some_and(|word| {
        matches!(word, 0xd65f_03c0 | 0xd503_201f)
            || word & 0xffe0_001f == 0xd420_0000
            || word >> 16 == 0
            || word >> 26 == 0b00_0101
    });
    begins || follows
}

fn looks_like_start_x86_64(code: &[u8], at: usize) -> bool {
    let begins = matches!(
        code.get(at..).unwrap_or_default(),
        // push %rbp, %rbx, or %r12 to %r15; sub $N, %rsp; endbr64.
        [0x55 | 0x53, ..]
            | [0x41, 0x54..=0x57, ..]
            | [0x48, 0x83 | 0x81, 0xec, _, ..]
            | [0xf3, 0x0f, 0x1e, 0xfa, ..]
    );
    let before = at.checked_sub(2).and_then(|before| code.get(before..at));
    // ret; int3 or nop between functions; ud2.
    let follows = matches!(before, Some([_, 0xc3 | 0xcc | 0x90] | [0x0f, 0x0b]));
    begins || follows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held against what `.eh_frame` says of this test's own code.
    #[test]
    fn most_functions_are_found_and_few_are_cut() {
        let image = Image::open(std::path::Path::new("/proc/self/exe")).unwrap();
        let starts = Starts::find(&image);
        let (mut right, mut cut, mut joined) = (0u32, 0u32, 0u32);
        for (start, end) in image.functions().iter() {
            let last = VirtAddr(end.0 - 1);
            match starts.at(&image, last) {
                Some(found) if found.start == start => right += 1,
                Some(found) if found.start > start => cut += 1,
                _ => joined += 1,
            }
        }
        let all = right + cut + joined;
        println!("{all} functions: {right} right, {cut} cut, {joined} joined to another");
        assert!(all > 1000 && right * 10 >= all * 9, "{right} of {all}");
        assert!(cut * 50 <= all, "{cut} of {all}");
    }

    #[test]
    fn nothing_lies_before_the_first_start_or_far_behind_one() {
        let image = Image::open(std::path::Path::new("/proc/self/exe")).unwrap();
        let code = image.executable_ranges().last().unwrap();
        let starts = Starts(vec![VirtAddr(code.start.0 + 16)]);
        assert_eq!(starts.at(&image, code.start), None);
        let at = VirtAddr(code.start.0 + 20);
        let found = starts.at(&image, at).unwrap();
        assert_eq!(found.start, VirtAddr(code.start.0 + 16));
        assert!(found.end.0 <= found.start.0 + LONGEST);
        assert_eq!(starts.at(&image, VirtAddr(found.end.0)), None);
    }
}
