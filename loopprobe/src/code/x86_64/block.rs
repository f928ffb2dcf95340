//! Decodes straight-line x86-64 code into the few operations that walks follow, and its end.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use super::registers::{CALLER_SAVED_BITS, FIRST_AND_THIRD, gpr};
use crate::{
    code::block::{Block, Exit, MAX_BYTES, Op, Place},
    elf::{Image, VirtAddr},
};

/// The place in memory that an instruction names.
pub(super) fn place(instruction: &Instruction) -> Place {
    Place {
        base: gpr(instruction.memory_base()),
        displacement: instruction.memory_displacement64(),
    }
}

/// Decodes the block at `start`. It ends with its function at the latest: a call that never
/// returns may be the last instruction there.
pub(in crate::code) fn decode(image: &Image, start: VirtAddr) -> Block {
    let len = image.function_at(start).map_or(MAX_BYTES + 16, |f| {
        (f.end.0 - start.0).min(MAX_BYTES as u64 + 16) as usize
    });
    let bytes = if image.is_code(start) {
        image.bytes_up_to(start, len)
    } else {
        &[]
    };
    let mut decoder = Decoder::with_ip(64, bytes, start.0, DecoderOptions::NONE);
    let (mut ops, mut table, mut instruction) = (Vec::new(), None, Instruction::default());
    while decoder.can_decode() && decoder.position() < MAX_BYTES {
        decoder.decode_out(&mut instruction);
        let end = VirtAddr(instruction.next_ip());
        if instruction.code() == Code::Movsxd_r64_rm32 && instruction.op1_kind() == OpKind::Memory {
            table = Some(instruction.memory_base());
        }
        if let Some(exit) = exit(image, &instruction, table) {
            return Block { ops, exit, end };
        }
        let takes_variable = is_thread_local_call(image, &instruction, ops.last());
        ops.extend(op(image, &instruction));
        if takes_variable {
            ops.push(Op::ThreadLocal(gpr(Register::RAX)));
        }
    }
    let end = VirtAddr(decoder.ip());
    let exit = if decoder.can_decode() {
        Exit::Next(end)
    } else {
        Exit::End
    };
    Block { ops, exit, end }
}

fn exit(image: &Image, instruction: &Instruction, table: Option<Register>) -> Option<Exit> {
    match instruction.flow_control() {
        FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => None,
        FlowControl::UnconditionalBranch => {
            Some(Exit::Jump(VirtAddr(instruction.near_branch_target())))
        }
        FlowControl::ConditionalBranch => Some(Exit::Branch {
            taken: VirtAddr(instruction.near_branch_target()),
            next: VirtAddr(instruction.next_ip()),
        }),
        FlowControl::IndirectBranch => Some(indirect_jump(image, instruction, table)),
        FlowControl::Return => Some(Exit::Return),
        _ => Some(Exit::End),
    }
}

fn indirect_jump(image: &Image, instruction: &Instruction, table: Option<Register>) -> Exit {
    if instruction.op0_kind() == OpKind::Register {
        return table.map_or(Exit::Unknown, |table| Exit::RelativeTable(gpr(table)));
    }
    if let Some(target) = through_word(image, instruction) {
        return Exit::Jump(target);
    }
    if instruction.memory_base() == Register::None && instruction.memory_index_scale() == 8 {
        return Exit::AbsoluteTable(VirtAddr(instruction.memory_displacement64()));
    }
    Exit::Unknown
}

/// The target of a call or jump through a word of the image, such as an entry of the global offset
/// table.
fn through_word(image: &Image, instruction: &Instruction) -> Option<VirtAddr> {
    instruction
        .is_ip_rel_memory_operand()
        .then(|| image.pointer_at(VirtAddr(instruction.ip_rel_memory_address())))?
}

fn op(image: &Image, instruction: &Instruction) -> Option<Op> {
    match instruction.mnemonic() {
        Mnemonic::Call => Some(Op::Call(call_target(image, instruction), CALLER_SAVED_BITS)),
        Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => Some(Op::Address(
            gpr(instruction.op0_register()),
            VirtAddr(instruction.ip_rel_memory_address()),
        )),
        Mnemonic::Lea => Some(Op::Sum(
            gpr(instruction.op0_register()),
            gpr(instruction.memory_base()),
            gpr(instruction.memory_index()),
        )),
        Mnemonic::Mov | Mnemonic::Add if takes_thread_pointer(instruction) => {
            Some(Op::ThreadLocal(gpr(instruction.op0_register())))
        }
        Mnemonic::Add if adds_to_register(instruction) => Some(Op::Sum(
            gpr(instruction.op0_register()),
            gpr(instruction.op0_register()),
            gpr(instruction.op1_register()),
        )),
        Mnemonic::Mov if stores_state(instruction) => Some(Op::Store(
            place(instruction),
            instruction.memory_size().size() as u8,
        )),
        Mnemonic::Mov if is_register_copy(instruction) => Some(Op::Copy(
            gpr(instruction.op0_register()),
            gpr(instruction.op1_register()),
        )),
        Mnemonic::Mov if loads_byte(instruction) && tests_byte(instruction) => Some(Op::TestByte(
            gpr(instruction.op0_register()),
            place(instruction),
        )),
        Mnemonic::Mov => fixed_address(image, instruction).or_else(|| clobber(instruction)),
        Mnemonic::Movzx | Mnemonic::Cmp if tests_byte(instruction) => Some(Op::TestByte(
            gpr(instruction.op0_register()),
            place(instruction),
        )),
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push | Mnemonic::Bt => None,
        _ => clobber(instruction),
    }
}

fn call_target(image: &Image, instruction: &Instruction) -> Option<VirtAddr> {
    match instruction.op0_kind() {
        OpKind::NearBranch64 => Some(VirtAddr(instruction.near_branch_target())),
        OpKind::Memory => through_word(image, instruction),
        _ => None,
    }
}

fn is_register_copy(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register().is_gpr64()
}

/// `mov %fs:0, %reg`, or `add %fs:0, %reg` to an offset that the loader knows: the register points
/// to the thread's own variables. Source: "ELF Handling For Thread-Local Storage", local exec,
/// initial exec and descriptors.
fn takes_thread_pointer(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_gpr64()
        && instruction.op1_kind() == OpKind::Memory
        && instruction.segment_prefix() == Register::FS
        && instruction.memory_base() == Register::None
        && instruction.memory_index() == Register::None
        && instruction.memory_displacement64() == 0
}

/// Whether `instruction` is a call of `__tls_get_addr`: its argument, loaded just before, is a word
/// that the loader fills with a module's number. Source: the same, general and local dynamic.
fn is_thread_local_call(image: &Image, instruction: &Instruction, before: Option<&Op>) -> bool {
    let Some(Op::Address(register, slot)) = before else {
        return false;
    };
    instruction.mnemonic() == Mnemonic::Call
        && *register == FIRST_AND_THIRD[0]
        && image.is_thread_local_module(*slot)
}

fn adds_to_register(instruction: &Instruction) -> bool {
    let is_number_or_register = instruction.op1_kind() != OpKind::Memory;
    instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_gpr64()
        && is_number_or_register
}

/// Code for size loads a byte without extending it.
fn loads_byte(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register && instruction.op0_register().is_gpr8()
}

/// `mov $address, %reg` in code that is linked for a fixed address.
fn fixed_address(image: &Image, instruction: &Instruction) -> Option<Op> {
    let immediate = match instruction.code() {
        Code::Mov_r32_imm32 => u64::from(instruction.immediate32()),
        Code::Mov_rm64_imm32 => instruction.immediate32to64() as u64,
        Code::Mov_r64_imm64 => instruction.immediate64(),
        _ => return None,
    };
    let known = image.has_fixed_address() && instruction.op0_kind() == OpKind::Register;
    let address = VirtAddr(immediate);
    (known && image.file_offset(address).is_some())
        .then(|| Op::Address(gpr(instruction.op0_register()), address))
}

fn tests_byte(instruction: &Instruction) -> bool {
    let memory =
        instruction.op0_kind() == OpKind::Memory || instruction.op1_kind() == OpKind::Memory;
    memory
        && instruction.memory_size().size() == 1
        && !instruction.is_ip_rel_memory_operand()
        && !matches!(instruction.memory_base(), Register::None | Register::RSP)
        && instruction.memory_index() == Register::None
        && instruction.segment_prefix() == Register::None
}

/// Whether a state may be written: a byte, or with its neighbours up to four.
fn stores_state(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Memory
        && matches!(instruction.memory_size().size(), 1 | 2 | 4)
        && !instruction.is_ip_rel_memory_operand()
        && !matches!(instruction.memory_base(), Register::None | Register::RSP)
        && instruction.segment_prefix() == Register::None
}

fn clobber(instruction: &Instruction) -> Option<Op> {
    (instruction.op_count() > 0
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().is_gpr())
    .then(|| Op::Clobber(gpr(instruction.op0_register())))
}
