//! Where a call leads, from the instruction in front of its return address.

use super::{
    code,
    instruction::{Kind, LENGTH},
};
use crate::elf::{Image, VirtAddr};

/// The function that a call leads to, `inside` being any byte of the call.
///
/// `None` for a call through a register, and for one that leads out of the file.
pub(in crate::code) fn callee(image: &Image, inside: VirtAddr) -> Option<VirtAddr> {
    let start = VirtAddr(inside.0 & !(LENGTH - 1));
    let (_, instruction) = code(image, start, LENGTH as usize).next()?;
    let Kind::Call(target) = instruction.kind else {
        return None;
    };
    // A stub of the procedure linkage table is no function of the file.
    let function = image.function_at(target)?;
    (function.start == target).then_some(target)
}
