//! Which code a function leads to or names.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

use crate::elf::{Image, VirtAddr};

/// Where the instructions in `len` bytes of code from `start` on lead, and whose addresses they
/// take, each time that they do.
pub(in crate::code) fn targets(image: &Image, start: VirtAddr, len: usize) -> Vec<VirtAddr> {
    let code = image.bytes_up_to(start, len);
    Decoder::with_ip(64, code, start.0, DecoderOptions::NONE)
        .into_iter()
        .filter_map(|instruction| target(image, &instruction))
        .collect()
}

fn target(image: &Image, instruction: &Instruction) -> Option<VirtAddr> {
    match instruction.flow_control() {
        FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
            Some(VirtAddr(instruction.near_branch_target()))
        }
        FlowControl::IndirectCall | FlowControl::IndirectBranch
            if instruction.is_ip_rel_memory_operand() =>
        {
            image.pointer_at(VirtAddr(instruction.ip_rel_memory_address()))
        }
        _ if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() => {
            Some(VirtAddr(instruction.ip_rel_memory_address()))
        }
        _ => None,
    }
}
