//! What A64 code tells.

pub(super) mod block;
pub(super) mod call;
mod constants;
pub(super) mod entry;
pub(super) mod imports;
pub(crate) mod instruction;
pub(super) mod references;

use std::ops::Range;

use self::instruction::Instruction;
use crate::elf::{Image, VirtAddr};

/// The instructions in `len` bytes of code from `start` on; none where there is no code.
fn code(
    image: &Image,
    start: VirtAddr,
    len: usize,
) -> impl Iterator<Item = (VirtAddr, Instruction)> {
    let bytes = if image.is_code(start) && start.0.is_multiple_of(instruction::LENGTH) {
        image.bytes_up_to(start, len)
    } else {
        &[]
    };
    instruction::instructions(bytes, start)
}

/// The same in a range of addresses.
fn code_in(
    image: &Image,
    range: &Range<VirtAddr>,
) -> impl Iterator<Item = (VirtAddr, Instruction)> {
    let len = range.end.0.saturating_sub(range.start.0);
    code(image, range.start, usize::try_from(len).unwrap_or(0))
}
