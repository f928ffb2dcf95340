//! Finds the function that gives memory back, by its many calls with a constant alignment.

use std::collections::HashMap;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};
use memchr::memmem;

use super::imports::callee;
use crate::elf::{Image, VirtAddr};

/// So many instructions lie at most between the argument and the call.
const MAX_BETWEEN: u32 = 6;
/// The alignment of most types that own memory. The third argument of other functions, often a
/// length, is rarely this.
const ALIGNMENT: u32 = 8;
/// The same as an instruction: `mov $8, %edx`.
const TO_THIRD_ARGUMENT: [u8; 5] = [0xba, ALIGNMENT as u8, 0, 0, 0];
/// How long all that is at most, in bytes: an instruction has 15.
const MAX_PATTERN: usize = TO_THIRD_ARGUMENT.len() + 15 * MAX_BETWEEN as usize;
/// Jumps followed from it: to the allocator's crate, and from there to the allocator.
const MAX_JUMPS: usize = 3;
/// What only passes a call on is short, in bytes.
const MAX_JUMPER: usize = 256;
/// So many calls show the pattern at least: the standard library alone has hundreds.
const MIN_CALLS: u32 = 64;
/// And so many times as many as of any other function.
const MARGIN: u32 = 4;

/// The function through which all Rust code of a file gives memory back, and those of the allocator
/// to which it jumps. Code of the crate that chooses the allocator may call these at once.
///
/// None where it was inlined into its callers or is not found.
pub(in crate::code) fn deallocators(image: &Image) -> Vec<VirtAddr> {
    let mut found: Vec<VirtAddr> = deallocator(image).into_iter().collect();
    let mut next = found.clone();
    for _ in 0..MAX_JUMPS {
        next = next.iter().flat_map(|at| jumps(image, *at)).collect();
        next.retain(|target| !found.contains(target));
        found.extend_from_slice(&next);
    }
    found
}

/// Where a function jumps out of itself.
fn jumps(image: &Image, start: VirtAddr) -> Vec<VirtAddr> {
    let Some(function) = image.function_at(start) else {
        return Vec::new();
    };
    let len = usize::try_from(function.end.0 - start.0).unwrap_or(0);
    let bytes = image.bytes_up_to(start, len.min(MAX_JUMPER));
    let mut decoder = Decoder::with_ip(64, bytes, start.0, DecoderOptions::NONE);
    let instructions = std::iter::from_fn(|| decoder.can_decode().then(|| decoder.decode()));
    instructions
        .filter(|instruction| {
            matches!(
                instruction.flow_control(),
                FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
            )
        })
        .filter_map(|instruction| callee(image, &instruction))
        .filter(|target| !function.contains(target))
        .filter(|target| {
            image
                .function_at(*target)
                .is_some_and(|f| f.start == *target)
        })
        .collect()
}

/// `__rust_dealloc(pointer, size, alignment)`, told by its calls: most have a constant alignment as
/// their third argument, and nothing else in a program is called so often so.
fn deallocator(image: &Image) -> Option<VirtAddr> {
    let finder = memmem::Finder::new(&TO_THIRD_ARGUMENT);
    let mut calls: HashMap<VirtAddr, u32> = HashMap::new();
    for range in image.executable_ranges() {
        let mut pieces = image.pieces(range, 1, MAX_PATTERN);
        while let Some(piece) = pieces.next() {
            let bytes = piece.bytes;
            for at in finder.find_iter(bytes) {
                // With a prefix it is another register.
                let has_prefix = at > 0 && matches!(bytes[at - 1], 0x40..=0x4f);
                if has_prefix || !piece.own.contains(&at) {
                    continue;
                }
                let next = at + TO_THIRD_ARGUMENT.len();
                let address = piece.address(next).0;
                if let Some(target) = next_call(image, &bytes[next..], address) {
                    *calls.entry(target).or_default() += 1;
                }
            }
        }
    }
    most_called(calls)
}

/// Where the call leads that comes next, if that is soon.
fn next_call(image: &Image, bytes: &[u8], address: u64) -> Option<VirtAddr> {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    for _ in 0..MAX_BETWEEN {
        if !decoder.can_decode() {
            return None;
        }
        let instruction = decoder.decode();
        if is_alignment(&instruction) {
            return None;
        }
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::ConditionalBranch => {}
            _ => return callee(image, &instruction),
        }
    }
    None
}

fn most_called(calls: HashMap<VirtAddr, u32>) -> Option<VirtAddr> {
    let (&most, &count) = calls.iter().max_by_key(|(_, count)| **count)?;
    let others = calls.iter().filter(|(target, _)| **target != most);
    let next = others.map(|(_, count)| *count).max().unwrap_or(0);
    (count >= MIN_CALLS && count >= next.saturating_mul(MARGIN)).then_some(most)
}

/// `mov $alignment, %edx`: a third argument in the calling convention of x86-64.
fn is_alignment(instruction: &Instruction) -> bool {
    instruction.code() == Code::Mov_r32_imm32
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register() == Register::EDX
        && instruction.immediate32() == ALIGNMENT
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::elf::SymbolTable;

    #[test]
    fn the_function_that_gives_memory_back_is_found_without_its_name() {
        let image = Image::open(Path::new("/proc/self/exe")).expect("the own file");
        let found = deallocator(&image).expect("a deallocator");
        let sections = image.sections().expect("sections");
        let symbols = SymbolTable::read(&sections).expect("symbols");
        let names: Vec<_> = symbols.at(found).map(|symbol| symbol.name).collect();
        let is_right = |name: &&str| name.contains("dealloc");
        assert!(names.iter().any(is_right), "{names:?}");
    }

    #[test]
    fn two_that_are_called_alike_are_none() {
        let of = |counts: &[(u64, u32)]| {
            let calls = counts.iter().map(|&(at, count)| (VirtAddr(at), count));
            most_called(calls.collect())
        };
        assert_eq!(of(&[(1, 500), (2, 26)]), Some(VirtAddr(1)));
        assert_eq!(of(&[(1, 500), (2, 130)]), None);
        assert_eq!(of(&[(1, 10)]), None);
        assert_eq!(of(&[]), None);
    }
}
