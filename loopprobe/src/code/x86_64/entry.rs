//! Where a probe is cheap: the instructions that the kernel emulates instead of single-stepping
//! them.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};

use crate::{
    code::point::{EntryInstruction, Leads, ProbePoint},
    elf::{Image, VirtAddr},
};

/// The longest x86 instruction.
const MAX_INSTRUCTION: usize = 15;
/// How far a probe is moved from a function's first byte. One hop through the GOT and a handful of
/// moves were seen.
const MAX_STEPS: usize = 8;

/// Chooses where to probe the function at `entry`, whose first argument is wanted.
///
/// If the kernel does not emulate the first instruction, the first emulated one is taken that every
/// call passes exactly once with the argument still in `rdi` and the stack pointer as it was at the
/// entry: there the return address still lies at the top of the stack, so entry and return probes
/// work as at the entry. Without one it stays at the entry. `None` means that no instruction is
/// there.
pub(in crate::code) fn probe_point(image: &Image, entry: VirtAddr) -> Option<ProbePoint> {
    let first = decode(image, entry)?;
    let at = |instruction: &Instruction| ProbePoint {
        address: VirtAddr(instruction.ip()),
        instruction: EntryInstruction {
            mnemonic: mnemonic(instruction),
            emulated: is_emulated(instruction),
            leads: leads(image, instruction),
        },
    };
    let mut instruction = first;
    for _ in 0..MAX_STEPS {
        if is_emulated(&instruction) {
            return Some(at(&instruction));
        }
        match following(image, &instruction).and_then(|address| decode(image, address)) {
            Some(next) => instruction = next,
            None => break,
        }
    }
    Some(at(&first))
}

/// The instruction at `address`, if the bytes there are one.
pub(super) fn decode(image: &Image, address: VirtAddr) -> Option<Instruction> {
    if !image.is_code(address) {
        return None;
    }
    let bytes = image.bytes_up_to(address, MAX_INSTRUCTION);
    let instruction = Decoder::with_ip(64, bytes, address.0, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Where the code goes after `instruction` in any case, with `rdi` and `rsp` untouched.
fn following(image: &Image, instruction: &Instruction) -> Option<VirtAddr> {
    match instruction.flow_control() {
        FlowControl::Next if !writes_rdi_or_rsp(instruction) => {
            Some(VirtAddr(instruction.next_ip()))
        }
        FlowControl::IndirectBranch if instruction.is_ip_rel_memory_operand() => {
            image.pointer_at(VirtAddr(instruction.ip_rel_memory_address()))
        }
        _ => None,
    }
}

/// Where `instruction` leads, whether it is emulated or not.
fn leads(image: &Image, instruction: &Instruction) -> Leads {
    let behind = instruction.next_ip();
    let target = match instruction.flow_control() {
        FlowControl::IndirectBranch if instruction.is_ip_rel_memory_operand() => image
            .pointer_at(VirtAddr(instruction.ip_rel_memory_address()))
            .map(|target| target.0),
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::Call => {
            Some(instruction.near_branch_target())
        }
        _ => None,
    };
    let next = match instruction.flow_control() {
        FlowControl::ConditionalBranch => [behind, target.unwrap_or(behind)],
        _ => [target.unwrap_or(behind); 2],
    };
    Leads {
        next: next.map(|address| address.wrapping_sub(instruction.ip()).cast_signed()),
        pushed: pushed(instruction),
    }
}

/// How far `instruction` lowers the stack pointer; 0 if it does not, or in a way that is not in the
/// instruction.
pub(super) fn pushed(instruction: &Instruction) -> u32 {
    let makes_room =
        instruction.mnemonic() == Mnemonic::Sub && instruction.op0_register() == Register::RSP;
    if makes_room && instruction.op1_kind() != OpKind::Register {
        return u32::try_from(instruction.immediate(1)).unwrap_or(0);
    }
    u32::try_from(-instruction.stack_pointer_increment()).unwrap_or(0)
}

fn writes_rdi_or_rsp(instruction: &Instruction) -> bool {
    written(instruction).any(|register| matches!(register, Register::RDI | Register::RSP))
}

/// The registers that `instruction` writes, in full length.
pub(super) fn written(instruction: &Instruction) -> impl Iterator<Item = Register> {
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(instruction).used_registers().to_vec();
    let written = used.into_iter().filter(|used| {
        !matches!(
            used.access(),
            OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
        )
    });
    written.map(|used| used.register().full_register())
}

/// Whether the kernel emulates `instruction` when a probe sits on it.
///
/// Source: `arch/x86/kernel/uprobes.c`, `branch_setup_xol_ops` and `push_setup_xol_ops` (the same
/// in Linux 6.1 and 6.18): relative `jmp`, `jcc` and `call` without an operand-size prefix,
/// one-byte `nop`, and `push` of a register with no prefix but REX.B. Multi-byte `nop`s are
/// emulated since 6.18 only and do not count.
pub(super) fn is_emulated(instruction: &Instruction) -> bool {
    match instruction.code() {
        Code::Jmp_rel8_64 | Code::Jmp_rel32_64 | Code::Call_rel32_64 | Code::Nopd => true,
        Code::Push_r64 => instruction.len() <= 2,
        code => code.is_jcc_short_or_near() && instruction.op0_kind() == OpKind::NearBranch64,
    }
}

fn mnemonic(instruction: &Instruction) -> String {
    match instruction.mnemonic() {
        Mnemonic::Endbr64 => "endbr64".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}
