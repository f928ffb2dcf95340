//! Where a probe is cheap: the instructions that the kernel simulates instead of single-stepping
//! them.

use super::{
    code,
    instruction::{Instruction, Kind, LENGTH, LINK, STACK},
};
use crate::{
    code::point::{EntryInstruction, Leads, ProbePoint},
    elf::{Image, VirtAddr},
};

/// How far a probe is moved from a function's first byte.
const MAX_STEPS: usize = 8;
/// The register of the first argument.
const ARGUMENT: u8 = 0;

/// What the kernel does with a probe on an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probed {
    /// It simulates the instruction.
    Simulated,
    /// It lets the thread step over a copy of it.
    Stepped,
    /// It refuses the probe.
    Refused,
}

/// Chooses where to probe the function at `entry`: where `x0`, the return address in `x30` and the
/// stack pointer are still as they were at the entry.
pub(in crate::code) fn probe_point(image: &Image, entry: VirtAddr) -> Option<ProbePoint> {
    let mut at = entry;
    let mut stepped = None;
    for _ in 0..MAX_STEPS {
        let (_, instruction) = code(image, at, LENGTH as usize).next()?;
        let probed = probed(&instruction);
        let point = ProbePoint {
            address: at,
            instruction: EntryInstruction {
                mnemonic: mnemonic(&instruction),
                emulated: probed == Probed::Simulated,
                leads: leads(at, &instruction),
            },
        };
        match probed {
            Probed::Simulated => return Some(point),
            Probed::Stepped => stepped = stepped.or(Some(point)),
            Probed::Refused => {}
        }
        if !goes_on(&instruction) {
            break;
        }
        at = VirtAddr(at.0 + LENGTH);
    }
    stepped
}

/// Whether the next instruction follows in any case, with what a probe needs as it was.
fn goes_on(instruction: &Instruction) -> bool {
    let keeps = [ARGUMENT, LINK, STACK]
        .iter()
        .all(|register| !instruction.may_write(*register));
    let jumps = matches!(
        instruction.kind,
        Kind::Jump(_)
            | Kind::Branch(_)
            | Kind::JumpThrough(_)
            | Kind::Call(_)
            | Kind::CallThrough(_)
            | Kind::Return
            | Kind::Trap
    );
    keeps && !jumps && !signs_link(instruction)
}

/// `paciasp`, `xpaclri` and their like change the link register, and no field of theirs says so.
/// Source: Arm Architecture Reference Manual (DDI 0487), C6.2, `HINT`: CRm is 0b0011, or 0b0000 and
/// op2 0b111.
fn signs_link(instruction: &Instruction) -> bool {
    instruction.word & 0xffff_ff1f == 0xd503_231f || instruction.word == 0xd503_20ff
}

/// Source: `arm_probe_decode_insn` in `arch/arm64/kernel/probes/decode-insn.c` and
/// `aarch64_insn_is_steppable_hint` in `arch/arm64/include/asm/insn.h`, the same from Linux 5.15 to
/// 6.18 in all that is told apart here. `nop`, which newer kernels simulate too, counts as stepped.
fn probed(instruction: &Instruction) -> Probed {
    let word = instruction.word;
    match instruction.kind {
        Kind::Address(..) | Kind::Page(..) | Kind::Jump(_) | Kind::Branch(_) | Kind::Call(_) => {
            Probed::Simulated
        }
        // Authenticated forms are refused.
        Kind::JumpThrough(_) | Kind::CallThrough(_) | Kind::Return => {
            match word & 0xff9f_fc1f == 0xd61f_0000 {
                true => Probed::Simulated,
                false => Probed::Refused,
            }
        }
        Kind::Trap | Kind::ThreadPointer(_) => Probed::Refused,
        _ if is_refused(word) => Probed::Refused,
        _ => Probed::Stepped,
    }
}

/// Words near the instruction, exclusive accesses, system registers, exceptions, unknown hints.
fn is_refused(word: u32) -> bool {
    let is_literal = word & 0x3b00_0000 == 0x1800_0000;
    let is_exclusive = word & 0x3f80_0000 == 0x0800_0000;
    let is_exception = word >> 24 == 0xd4;
    let is_system_register = matches!(word >> 20, 0xd51 | 0xd53);
    let is_state = word & 0xfff8_f01f == 0xd500_401f;
    let is_hint = word & 0xffff_f01f == 0xd503_201f;
    let is_known_hint = matches!(
        word,
        // nop; xpaclri, pacia1716 and pacib1716; paciaz, paciasp, pacibz, pacibsp; bti.
        0xd503_201f
            | 0xd503_20ff
            | 0xd503_211f
            | 0xd503_215f
            | 0xd503_231f
            | 0xd503_233f
            | 0xd503_235f
            | 0xd503_237f
            | 0xd503_241f
            | 0xd503_245f
            | 0xd503_249f
            | 0xd503_24df
    );
    is_literal
        || is_exclusive
        || is_exception
        || is_system_register
        || is_state
        || is_hint && !is_known_hint
}

/// Where an instruction leads, and how far it lowers the stack pointer.
fn leads(at: VirtAddr, instruction: &Instruction) -> Leads {
    let behind = LENGTH as i64;
    let to = |target: VirtAddr| target.0.wrapping_sub(at.0).cast_signed();
    let next = match instruction.kind {
        Kind::Jump(target) | Kind::Call(target) => [to(target); 2],
        Kind::Branch(target) => [behind, to(target)],
        _ => [behind; 2],
    };
    let pushed = match instruction.kind {
        Kind::Push(pushed) => pushed,
        Kind::Add(STACK, STACK, number) => u32::try_from(-number).unwrap_or(0),
        _ => 0,
    };
    Leads { next, pushed }
}

/// The name of an instruction that a function may begin with.
fn mnemonic(instruction: &Instruction) -> String {
    let word = instruction.word;
    let name = match instruction.kind {
        Kind::Address(..) => "adr",
        Kind::Page(..) => "adrp",
        Kind::Number(..) => "movz",
        Kind::Part(..) => "movk",
        Kind::Add(_, _, number) if number < 0 => "sub",
        Kind::Add(_, STACK, _) | Kind::Add(STACK, ..) => "add",
        Kind::Add(_, _, 0) => "mov",
        Kind::Add(..) | Kind::Sum(..) => "add",
        Kind::Load(..) | Kind::LoadPart(..) | Kind::LoadEntry(..) => "ldr",
        Kind::Store(..) | Kind::StoreEntry(..) => "str",
        Kind::Push(_) if word >> 24 == 0xa9 => "stp",
        Kind::Push(_) => "str",
        Kind::ThreadPointer(_) => "mrs",
        Kind::Jump(_) => "b",
        Kind::Branch(_) => match word >> 24 & 0x7f {
            0x34 => "cbz",
            0x35 => "cbnz",
            0x36 => "tbz",
            0x37 => "tbnz",
            _ => "b.cond",
        },
        Kind::JumpThrough(_) => "br",
        Kind::Call(_) => "bl",
        Kind::CallThrough(_) => "blr",
        Kind::Return => "ret",
        Kind::Trap => "brk",
        Kind::Other if word & 0x3a40_0000 == 0x2800_0000 => "stp",
        Kind::Other if word == 0xd503_233f => "paciasp",
        Kind::Other if word & 0xffff_ff3f == 0xd503_241f => "bti",
        Kind::Other => return format!("{word:#010x}"),
    };
    name.to_owned()
}
