//! Whether a function calls one of another file by name, itself or through a linkage stub.

use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use crate::elf::{Image, VirtAddr};

/// Larger functions are looked at no further, in bytes.
const MAX_LOOKED_AT: u64 = 1 << 16;
/// A function that does nothing but call another one, such as an entry of the procedure linkage
/// table, has fewer bytes before that.
const MAX_THUNK: u64 = 24;

/// Whether the code of `function` calls a function of another file by this name, itself or through
/// a function that does nothing before it.
pub(in crate::code) fn calls_import(
    image: &Image,
    function: &Range<VirtAddr>,
    name: &[u8],
) -> bool {
    let len = function.end.0.saturating_sub(function.start.0);
    instructions(image, function.start, len.min(MAX_LOOKED_AT)).any(|instruction| {
        is_call_of(image, &instruction, name)
            || callee(image, &instruction)
                .filter(|target| !function.contains(target))
                .is_some_and(|target| is_thunk_of(image, target, name))
    })
}

fn instructions(image: &Image, start: VirtAddr, len: u64) -> impl Iterator<Item = Instruction> {
    let bytes = if image.is_code(start) {
        image.bytes_up_to(start, usize::try_from(len).unwrap_or(0))
    } else {
        &[]
    };
    let mut decoder = Decoder::with_ip(64, bytes, start.0, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
}

fn is_call_of(image: &Image, instruction: &Instruction, name: &[u8]) -> bool {
    word(instruction).and_then(|slot| image.import_at(slot)) == Some(name)
}

/// The word, to be filled by the loader, through which an instruction calls or jumps; or from which
/// it loads an address, as is done ahead of a loop of calls.
fn word(instruction: &Instruction) -> Option<VirtAddr> {
    let is_use = match instruction.flow_control() {
        FlowControl::IndirectCall | FlowControl::IndirectBranch => true,
        _ => instruction.code() == Code::Mov_r64_rm64,
    };
    (is_use && instruction.is_ip_rel_memory_operand())
        .then(|| VirtAddr(instruction.ip_rel_memory_address()))
}

/// Where a call or jump leads in this file, directly or through a word of it.
pub(super) fn callee(image: &Image, instruction: &Instruction) -> Option<VirtAddr> {
    match instruction.flow_control() {
        FlowControl::Call | FlowControl::UnconditionalBranch => {
            let is_near = instruction.op0_kind() == OpKind::NearBranch64;
            is_near.then(|| VirtAddr(instruction.near_branch_target()))
        }
        _ => image.pointer_at(word(instruction)?),
    }
}

fn is_thunk_of(image: &Image, start: VirtAddr, name: &[u8]) -> bool {
    let mut before_any = instructions(image, start, MAX_THUNK);
    let first = before_any.find(|instruction| instruction.flow_control() != FlowControl::Next);
    first.is_some_and(|instruction| is_call_of(image, &instruction, name))
}

#[cfg(test)]
mod tests {
    use std::{hint::black_box, path::Path};

    use super::*;
    use crate::code::tests::in_file;

    #[inline(never)]
    extern "C" fn yields_sometimes(often: u64) -> u64 {
        for _ in 0..often {
            std::thread::yield_now();
        }
        often
    }

    #[inline(never)]
    extern "C" fn computes(often: u64) -> u64 {
        (0..often).fold(1, |product, number| black_box(product * number))
    }

    #[test]
    fn a_call_is_found_behind_the_library_that_only_passes_it_on() {
        black_box(yields_sometimes(1) + computes(1));
        let image = Image::open(Path::new("/proc/self/exe")).expect("the own file");
        let yields = |function| {
            let function = image.function_at(in_file(function)).expect("a function");
            calls_import(&image, &function, b"sched_yield")
        };
        assert!(yields(yields_sometimes));
        assert!(!yields(computes));
    }
}
