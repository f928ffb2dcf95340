//! Decodes straight-line x86-64 code into the few operations that walks follow, and its end.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use super::Registers;
use crate::elf::{Image, VirtAddr};

/// Straight-line code is cut here; the walk goes on with the next block.
const MAX_BYTES: usize = 2048;
/// A jump table with more entries is read no further. Async functions have one entry an await
/// point.
const MAX_TABLE: u64 = 1024;

/// A place in memory, as an instruction names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    base: Register,
    displacement: u64,
}

impl Place {
    /// Whether it lies in the image's or the thread's own static memory, given what is known of the
    /// registers: what is there is no future's state.
    pub(super) fn is_static(&self, registers: &Registers) -> bool {
        registers.is_thread_local(self.base) || registers.get(self.base).is_some()
    }

    /// Whether a write of `size` bytes here may reach the byte at `other`. Registers are copied, so
    /// only the distances are compared.
    pub(super) fn may_hold(&self, size: u8, other: Self) -> bool {
        other.displacement.wrapping_sub(self.displacement) < u64::from(size)
    }

    /// The register that the place is told from.
    pub(super) fn base(&self) -> Register {
        self.base
    }

    /// Bytes from where that register points to.
    pub(super) fn displacement(&self) -> u64 {
        self.displacement
    }

    /// The one that an instruction names.
    pub(super) fn of(instruction: &Instruction) -> Self {
        Self {
            base: instruction.memory_base(),
            displacement: instruction.memory_displacement64(),
        }
    }
}

/// What one instruction does, as far as a walk wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// The register takes this address of the image.
    Address(Register, VirtAddr),
    /// The first register takes the second's value.
    Copy(Register, Register),
    /// The register takes an address in thread-local memory.
    ThreadLocal(Register),
    /// The first register takes the sum of the others (or one of them) and a number.
    Sum(Register, Register, Register),
    /// The register takes a value that is not followed.
    Clobber(Register),
    /// A byte in memory is compared or loaded into the register, as a state machine does with its
    /// state; and where.
    TestByte(Register, Place),
    /// So many bytes are written from there on, as a state machine does with its state; the
    /// compiler may write its neighbours with it.
    Store(Place, u8),
    /// A call, and to where, if that is known.
    Call(Option<VirtAddr>),
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// The code goes on there.
    Next(VirtAddr),
    /// A jump, direct or through a word that the loader fills in.
    Jump(VirtAddr),
    /// A conditional jump.
    Branch {
        /// Where it jumps to.
        taken: VirtAddr,
        /// Where it goes on otherwise.
        next: VirtAddr,
    },
    /// A jump through a table of 32-bit distances from its own start, whose address is in the
    /// register.
    RelativeTable(Register),
    /// A jump through a table of addresses.
    AbsoluteTable(VirtAddr),
    /// A return.
    Return,
    /// A jump that is not understood.
    Unknown,
    /// A trap, the function's end, or bytes that are no code.
    End,
}

/// A run of instructions without a jump in between. Calls do not end it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// What it does, in order.
    pub ops: Vec<Op>,
    /// How it ends.
    pub exit: Exit,
    /// The address after its last instruction.
    pub end: VirtAddr,
}

impl Block {
    /// Decodes the block at `start`. It ends with its function at the latest: a call that never
    /// returns may be the last instruction there.
    pub(super) fn decode(image: &Image, start: VirtAddr) -> Self {
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
            if instruction.code() == Code::Movsxd_r64_rm32
                && instruction.op1_kind() == OpKind::Memory
            {
                table = Some(instruction.memory_base());
            }
            if let Some(exit) = exit(image, &instruction, table) {
                return Self { ops, exit, end };
            }
            let takes_variable = is_thread_local_call(image, &instruction, ops.last());
            ops.extend(op(image, &instruction));
            if takes_variable {
                ops.push(Op::ThreadLocal(Register::RAX));
            }
        }
        let end = VirtAddr(decoder.ip());
        let exit = if decoder.can_decode() {
            Exit::Next(end)
        } else {
            Exit::End
        };
        Self { ops, exit, end }
    }
}

impl Op {
    /// Applies the operation to what is known of the registers.
    pub(super) fn apply(&self, registers: &mut Registers) {
        match *self {
            Self::Address(register, address) => registers.set(register, Some(address)),
            Self::Copy(to, from) if registers.is_thread_local(from) => {
                registers.set_thread_local(to);
            }
            Self::Copy(to, from) => registers.set(to, registers.get(from)),
            Self::ThreadLocal(register) => registers.set_thread_local(register),
            Self::Sum(to, a, b) if registers.is_thread_local(a) || registers.is_thread_local(b) => {
                registers.set_thread_local(to);
            }
            Self::Sum(to, ..) => registers.set(to, None),
            Self::Clobber(register) | Self::TestByte(register, _) => registers.set(register, None),
            Self::Store(..) => {}
            Self::Call(_) => registers.after_call(),
        }
    }
}

/// The entries of a table of 32-bit distances from its own start.
pub(super) fn relative_table(image: &Image, table: VirtAddr, limit: VirtAddr) -> Vec<VirtAddr> {
    let entry = |index: u64| {
        let distance = image.u32_at(VirtAddr(table.0.checked_add(4 * index)?))? as i32;
        Some(VirtAddr(table.0.wrapping_add_signed(distance.into())))
    };
    entries(image, (limit.0.saturating_sub(table.0)) / 4, entry)
}

/// The entries of a table of addresses.
pub(super) fn absolute_table(image: &Image, table: VirtAddr, limit: VirtAddr) -> Vec<VirtAddr> {
    let entry = |index: u64| image.pointer_at(VirtAddr(table.0.checked_add(8 * index)?));
    entries(image, (limit.0.saturating_sub(table.0)) / 8, entry)
}

/// A table's length is nowhere to be read: it ends with the first entry that does not lead into the
/// function of the first one, or at the limit.
fn entries(image: &Image, limit: u64, entry: impl Fn(u64) -> Option<VirtAddr>) -> Vec<VirtAddr> {
    let Some(first) = entry(0).filter(|first| image.is_code(*first)) else {
        return Vec::new();
    };
    let function = image.function_at(first);
    let belongs = |target: &VirtAddr| match &function {
        Some(function) => function.contains(target),
        None => image.is_code(*target) && target.0.abs_diff(first.0) < 1 << 16,
    };
    (0..limit.min(MAX_TABLE))
        .map_while(|index| entry(index).filter(belongs))
        .collect()
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
        return table.map_or(Exit::Unknown, Exit::RelativeTable);
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
        Mnemonic::Call => Some(Op::Call(call_target(image, instruction))),
        Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => Some(Op::Address(
            instruction.op0_register(),
            VirtAddr(instruction.ip_rel_memory_address()),
        )),
        Mnemonic::Lea => Some(Op::Sum(
            instruction.op0_register(),
            instruction.memory_base(),
            instruction.memory_index(),
        )),
        Mnemonic::Mov | Mnemonic::Add if takes_thread_pointer(instruction) => {
            Some(Op::ThreadLocal(instruction.op0_register()))
        }
        Mnemonic::Add if adds_to_register(instruction) => Some(Op::Sum(
            instruction.op0_register(),
            instruction.op0_register(),
            instruction.op1_register(),
        )),
        Mnemonic::Mov if stores_state(instruction) => Some(Op::Store(
            Place::of(instruction),
            instruction.memory_size().size() as u8,
        )),
        Mnemonic::Mov if is_register_copy(instruction) => Some(Op::Copy(
            instruction.op0_register(),
            instruction.op1_register(),
        )),
        Mnemonic::Mov if loads_byte(instruction) && tests_byte(instruction) => Some(Op::TestByte(
            instruction.op0_register(),
            Place::of(instruction),
        )),
        Mnemonic::Mov => fixed_address(image, instruction).or_else(|| clobber(instruction)),
        Mnemonic::Movzx | Mnemonic::Cmp if tests_byte(instruction) => Some(Op::TestByte(
            instruction.op0_register(),
            Place::of(instruction),
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
    let is_call = instruction.mnemonic() == Mnemonic::Call;
    is_call
        && matches!(before, Some(Op::Address(Register::RDI, slot)) if image.is_thread_local_module(*slot))
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
        .then(|| Op::Address(instruction.op0_register(), address))
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
    .then(|| Op::Clobber(instruction.op0_register()))
}
