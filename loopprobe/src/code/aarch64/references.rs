//! Which code refers to given addresses, and to which ones a function does.

use std::{collections::HashSet, ops::Range};

use super::{
    code, code_in,
    constants::Constants,
    instruction::{Instruction, Kind},
};
use crate::elf::{Image, VirtAddr};

/// Finds the instructions that complete one of `targets` in a register. Returns (address of the
/// instruction, target).
pub(in crate::code) fn references(
    image: &Image,
    targets: &HashSet<VirtAddr>,
) -> Vec<(VirtAddr, VirtAddr)> {
    if targets.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for range in image.executable_ranges() {
        let mut constants = Constants::default();
        for (at, instruction) in code_in(image, &range) {
            if let Some(address) = constants.apply(image, &instruction)
                && targets.contains(&address)
            {
                found.push((at, address));
            }
            // The next function may begin here.
            if matches!(instruction.kind, Kind::Return | Kind::Trap) {
                constants.clear();
            }
        }
    }
    found
}

/// The addresses that the code in `range` puts together, ascending.
pub(in crate::code) fn referred(image: &Image, range: &Range<VirtAddr>) -> Vec<VirtAddr> {
    let mut constants = Constants::default();
    let mut found: Vec<_> = code_in(image, range)
        .filter_map(|(_, instruction)| constants.apply(image, &instruction))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Where the instructions in `len` bytes of code from `start` on lead, and whose addresses they
/// take, each time that they do.
pub(in crate::code) fn targets(image: &Image, start: VirtAddr, len: usize) -> Vec<VirtAddr> {
    let mut constants = Constants::default();
    code(image, start, len)
        .filter_map(|(_, instruction)| {
            let led = leads(&constants, &instruction);
            constants.apply(image, &instruction).or(led)
        })
        .collect()
}

/// Where an instruction jumps or calls, given the registers before it.
pub(super) fn leads(constants: &Constants, instruction: &Instruction) -> Option<VirtAddr> {
    match instruction.kind {
        Kind::Call(target) | Kind::Jump(target) | Kind::Branch(target) => Some(target),
        Kind::CallThrough(register) | Kind::JumpThrough(register) => constants.address(register),
        _ => None,
    }
}
