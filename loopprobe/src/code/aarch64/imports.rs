//! Whether a function calls one of another file by name, itself or through a linkage stub.

use std::ops::Range;

use super::{code, code_in, constants::Constants, instruction::Kind, references::leads};
use crate::elf::{Image, VirtAddr};

/// Larger functions are looked at no further, in bytes.
const MAX_LOOKED_AT: u64 = 1 << 16;
/// A function that does nothing but call another one, such as an entry of the procedure linkage
/// table, has fewer bytes before that.
const MAX_THUNK: usize = 24;

/// Whether the code of `function` calls a function of another file by this name, itself or through
/// a function that does nothing before it.
pub(in crate::code) fn calls_import(
    image: &Image,
    function: &Range<VirtAddr>,
    name: &[u8],
) -> bool {
    let end = function
        .end
        .0
        .min(function.start.0.saturating_add(MAX_LOOKED_AT));
    let looked_at = function.start..VirtAddr(end);
    let mut constants = Constants::default();
    code_in(image, &looked_at).any(|(_, instruction)| {
        let target = leads(&constants, &instruction);
        let is_it = loads_import(image, &constants, instruction.kind, name);
        constants.apply(image, &instruction);
        let is_outside = |target: &VirtAddr| !function.contains(target);
        is_it
            || target
                .filter(is_outside)
                .is_some_and(|target| is_thunk_of(image, target, name))
    })
}

/// Whether an instruction loads the address of the function with this name: to call it at once, or
/// ahead of a loop of calls.
fn loads_import(image: &Image, constants: &Constants, kind: Kind, name: &[u8]) -> bool {
    let Kind::Load(_, base, offset) = kind else {
        return false;
    };
    constants.address(base).is_some_and(|base| {
        let word = VirtAddr(base.0.wrapping_add_signed(offset));
        image.import_at(word) == Some(name)
    })
}

fn is_thunk_of(image: &Image, start: VirtAddr, name: &[u8]) -> bool {
    let mut constants = Constants::default();
    for (_, instruction) in code(image, start, MAX_THUNK) {
        if loads_import(image, &constants, instruction.kind, name) {
            return true;
        }
        if leads(&constants, &instruction).is_some() || instruction.kind == Kind::Return {
            return false;
        }
        constants.apply(image, &instruction);
    }
    false
}
