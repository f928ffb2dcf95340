//! Where functions begin in code that `.eh_frame` does not describe: where it is called, and where
//! pointers lead.
//!
//! Calls are found byte by byte and nothing is decoded, so bytes that only look like a call lead
//! into the middle of functions. A start is believed if several calls or a pointer lead there, or
//! if it looks like one. A start too many cuts a function short; one that is missing makes two
//! functions one, which is why a call from anywhere counts.

use std::ops::Range;

use super::{FunctionTable, Image, VirtAddr};

/// A start is the function of no code further away than this.
const LONGEST: u64 = 1 << 20;
/// More calls than this are not looked at: programs of 100 MB have about two million.
const MAX_CALLS: usize = 1 << 22;
/// `call rel32`.
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
        let mut pieces = image.pieces(range.clone(), 0, 4);
        while let Some(piece) = pieces.next() {
            for at in memchr::memchr_iter(CALL, piece.bytes) {
                let Some(distance) = piece.bytes[at + 1..].first_chunk::<4>() else {
                    break;
                };
                let next = piece.address(at + 5).0;
                let target = next.wrapping_add_signed(i32::from_le_bytes(*distance).into());
                // Most lead into the same segment.
                if range.contains(&VirtAddr(target)) || image.is_code(VirtAddr(target)) {
                    targets.push(VirtAddr(target));
                }
                if targets.len() == MAX_CALLS {
                    return targets;
                }
            }
        }
    }
    targets
}

/// Of the addresses that are called, in ascending order, those that are starts: several calls lead
/// there, or it looks like one.
fn believed(image: &Image, called: &[VirtAddr]) -> Vec<VirtAddr> {
    let mut believed = Vec::new();
    let mut by_target = called.chunk_by(|one, other| one == other).peekable();
    for range in image.executable_ranges() {
        let mut pieces = image.pieces(range, 2, 3);
        while let Some(piece) = pieces.next() {
            let end = piece.address(piece.own.end);
            while let Some(calls) = by_target.next_if(|calls| calls[0] < end) {
                let at = calls[0].0.wrapping_sub(piece.address(0).0) as usize;
                if calls.len() > 1 || looks_like_start(piece.bytes, at) {
                    believed.push(calls[0]);
                }
            }
        }
    }
    believed
}

/// Whether code at an index begins as functions do, or follows the end of one.
fn looks_like_start(code: &[u8], at: usize) -> bool {
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
