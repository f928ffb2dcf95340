//! Where a state machine keeps its state, told from the argument of the function that polls it.

use std::collections::{HashSet, VecDeque};

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

use super::block::place;
use crate::{
    code::{Blocks, Registers, block::Place, registers::Gpr, walk::Tested},
    elf::{Image, VirtAddr},
};

/// Blocks that are looked at: state machines are tested within some dozens of `raw::poll`.
const MAX_VISITS: usize = 2000;
/// How many calls deep.
const MAX_CALLS: u32 = 12;
/// Futures are not larger than that.
const MAX_OFFSET: i64 = 1 << 26;
/// Words of the stack that are kept track of.
const MAX_SLOTS: usize = 64;

/// What registers and words on the stack are known to hold: the first argument of the function
/// where the walk began, and a distance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pointers {
    registers: [Option<i64>; 16],
    /// The stack pointer's distance from where it was in the beginning.
    stack: Option<i64>,
    /// By distance from the same place, ascending.
    slots: Vec<(i64, i64)>,
}

#[derive(Clone, Debug)]
struct Visit {
    at: VirtAddr,
    registers: Registers,
    pointers: Pointers,
    calls: u32,
}

/// How far from the first argument of `start` the byte lies that is tested at `entries`. `None`
/// unless it is the same for all of them that are reached, and at least one is.
pub(in crate::code) fn find(
    image: &Image,
    blocks: &mut Blocks,
    start: VirtAddr,
    entries: &HashSet<Tested>,
) -> Option<u32> {
    let mut walk = StateWalk {
        image,
        blocks,
        entries,
        queue: VecDeque::new(),
        found: HashSet::new(),
    };
    walk.run(start);
    let mut found = walk.found.into_iter();
    match (found.next(), found.next()) {
        (Some(Some(offset)), None) if (0..MAX_OFFSET).contains(&offset) => {
            u32::try_from(offset).ok()
        }
        _ => None,
    }
}

struct StateWalk<'a> {
    image: &'a Image,
    blocks: &'a mut Blocks,
    entries: &'a HashSet<Tested>,
    queue: VecDeque<Visit>,
    /// Distances; `None` for a test of a byte whose place could not be followed.
    found: HashSet<Option<i64>>,
}

impl StateWalk<'_> {
    fn run(&mut self, start: VirtAddr) {
        let mut pointers = Pointers {
            stack: Some(0),
            ..Pointers::default()
        };
        pointers.set(Register::RDI, Some(0));
        self.queue.push_back(Visit {
            at: start,
            registers: Registers::default(),
            pointers,
            calls: 0,
        });
        let mut seen = HashSet::new();
        while let Some(visit) = self.queue.pop_front() {
            let key = (visit.at, visit.pointers.registers, visit.pointers.stack);
            if seen.len() < MAX_VISITS && seen.insert(key) {
                self.visit(visit);
            }
        }
    }

    fn visit(&mut self, mut visit: Visit) {
        let block = self.blocks.at(self.image, visit.at);
        let length = block.end.0.saturating_sub(visit.at.0) as usize;
        let bytes = self.image.bytes_up_to(visit.at, length);
        let mut decoder = Decoder::with_ip(64, bytes, visit.at.0, DecoderOptions::NONE);
        for instruction in &mut decoder {
            if let Some(place) = memory_place(&instruction)
                && self.entries.contains(&(block.end, place))
            {
                let base = visit.pointers.of(place.base);
                let displacement = place.displacement.cast_signed();
                self.found
                    .insert(base.and_then(|base| base.checked_add(displacement)));
                return;
            }
            if instruction.mnemonic() == Mnemonic::Call {
                self.call(&instruction, &visit);
            }
            visit.pointers.apply(&instruction);
        }
        for op in &block.ops {
            op.apply(&mut visit.registers);
        }
        if !visit.pointers.are_of_use() {
            return;
        }
        for target in self.blocks.targets(self.image, &block, &visit.registers) {
            self.queue.push_back(Visit {
                at: target,
                ..visit.clone()
            });
        }
    }

    fn call(&mut self, instruction: &Instruction, visit: &Visit) {
        let target = VirtAddr(instruction.near_branch_target());
        let is_direct = instruction.op0_kind() == OpKind::NearBranch64;
        if !is_direct || visit.calls == MAX_CALLS || !visit.pointers.are_passed() {
            return;
        }
        let mut pointers = visit.pointers.clone();
        pointers.move_stack(-8);
        self.queue.push_back(Visit {
            at: target,
            registers: Registers::default(),
            pointers,
            calls: visit.calls + 1,
        });
    }
}

/// The place in memory that an instruction names, if any.
fn memory_place(instruction: &Instruction) -> Option<Place> {
    let is_memory =
        instruction.op0_kind() == OpKind::Memory || instruction.op1_kind() == OpKind::Memory;
    is_memory.then(|| place(instruction))
}

impl Pointers {
    fn get(&self, register: Register) -> Option<i64> {
        let full = register.full_register();
        full.is_gpr64().then(|| self.registers[full.number()])?
    }

    fn set(&mut self, register: Register, value: Option<i64>) {
        let full = register.full_register();
        if full.is_gpr64() {
            self.registers[full.number()] = value;
        }
    }

    /// The same by its number.
    fn of(&self, register: Gpr) -> Option<i64> {
        *self.registers.get(register.index()?)?
    }

    /// Whether anything is known that leads to the state.
    fn are_of_use(&self) -> bool {
        !self.slots.is_empty() || self.registers.iter().any(Option::is_some)
    }

    /// Whether a callee gets any of it: by a register, or by what it saves of the caller's.
    fn are_passed(&self) -> bool {
        let arguments = [
            Register::RDI,
            Register::RSI,
            Register::RDX,
            Register::RCX,
            Register::R8,
            Register::R9,
        ];
        arguments
            .iter()
            .any(|register| self.get(*register).is_some())
    }

    fn move_stack(&mut self, by: i64) {
        self.stack = self.stack.and_then(|stack| stack.checked_add(by));
    }

    /// A word of the stack, if the operand is one.
    fn slot(&self, instruction: &Instruction) -> Option<i64> {
        let is_plain = instruction.memory_base() == Register::RSP
            && instruction.memory_index() == Register::None;
        let displacement = instruction.memory_displacement64().cast_signed();
        is_plain.then(|| self.stack?.checked_add(displacement))?
    }

    fn store(&mut self, slot: i64, value: Option<i64>) {
        self.slots.retain(|(at, _)| *at != slot);
        if let Some(value) = value.filter(|_| self.slots.len() < MAX_SLOTS) {
            self.slots.push((slot, value));
        }
    }

    fn load(&self, slot: i64) -> Option<i64> {
        let found = self.slots.iter().find(|(at, _)| *at == slot)?;
        Some(found.1)
    }

    fn apply(&mut self, instruction: &Instruction) {
        let (first, second) = (instruction.op0_register(), instruction.op1_register());
        let is_to_register = instruction.op0_kind() == OpKind::Register;
        let is_whole = is_to_register && first.is_gpr64();
        match instruction.mnemonic() {
            Mnemonic::Push => {
                self.move_stack(-8);
                let value = is_whole.then(|| self.get(first)).flatten();
                if let Some(stack) = self.stack {
                    self.store(stack, value);
                }
            }
            Mnemonic::Pop => {
                let value = self.stack.and_then(|stack| self.load(stack));
                self.move_stack(8);
                self.set(first, value);
            }
            Mnemonic::Sub | Mnemonic::Add if is_whole && is_number(instruction) => {
                self.add(first, instruction);
            }
            Mnemonic::Mov if is_whole && instruction.op1_kind() == OpKind::Register => {
                self.set(first, self.get(second));
            }
            Mnemonic::Mov if is_whole && instruction.op1_kind() == OpKind::Memory => {
                let value = self.slot(instruction).and_then(|slot| self.load(slot));
                self.set(first, value);
            }
            Mnemonic::Mov if instruction.op0_kind() == OpKind::Memory => {
                let value = second.is_gpr64().then(|| self.get(second)).flatten();
                self.forget(instruction);
                if let Some(slot) = self.slot(instruction).filter(|_| value.is_some()) {
                    self.store(slot, value);
                }
            }
            Mnemonic::Lea if is_whole => {
                let is_plain = instruction.memory_index() == Register::None;
                let base = self.get(instruction.memory_base()).filter(|_| is_plain);
                let displacement = instruction.memory_displacement64().cast_signed();
                self.set(first, base.and_then(|base| base.checked_add(displacement)));
            }
            // The stack is aligned: what was kept can no longer be found, and what is kept from now
            // on can.
            Mnemonic::And if first == Register::RSP => self.slots.clear(),
            Mnemonic::Call => {
                for register in super::registers::CALLER_SAVED {
                    self.set(register, None);
                }
            }
            _ => self.forget(instruction),
        }
    }

    /// A number is added to a register, or taken from it.
    fn add(&mut self, register: Register, instruction: &Instruction) {
        let number = instruction.immediate(1).cast_signed();
        let by = match instruction.mnemonic() {
            Mnemonic::Sub => number.wrapping_neg(),
            _ => number,
        };
        if register == Register::RSP {
            self.move_stack(by);
        } else {
            let value = self.get(register).and_then(|value| value.checked_add(by));
            self.set(register, value);
        }
    }

    /// Forgets what any other instruction writes.
    fn forget(&mut self, instruction: &Instruction) {
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(instruction);
        let writes = |access| {
            matches!(
                access,
                OpAccess::Write
                    | OpAccess::CondWrite
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
            )
        };
        for used in info
            .used_registers()
            .iter()
            .filter(|used| writes(used.access()))
        {
            if used.register().full_register() == Register::RSP {
                self.stack = None;
            }
            self.set(used.register(), None);
        }
        for used in info
            .used_memory()
            .iter()
            .filter(|used| writes(used.access()))
        {
            let displacement = used.displacement().cast_signed();
            let size = used.memory_size().size() as i64;
            if used.base() == Register::RSP
                && let Some(from) = self.stack.and_then(|stack| stack.checked_add(displacement))
            {
                self.slots.retain(|(at, _)| {
                    at.saturating_add(8) <= from || from.saturating_add(size) <= *at
                });
            }
        }
    }
}

fn is_number(instruction: &Instruction) -> bool {
    !matches!(instruction.op1_kind(), OpKind::Register | OpKind::Memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known after some instructions, of a register that held the argument's address in the
    /// beginning.
    fn after(code: &[u8], register: Register) -> Option<i64> {
        let mut pointers = Pointers {
            stack: Some(0),
            ..Pointers::default()
        };
        pointers.set(Register::RDI, Some(0));
        for instruction in Decoder::new(64, code, DecoderOptions::NONE) {
            pointers.apply(&instruction);
        }
        pointers.get(register)
    }

    #[test]
    fn the_argument_is_followed_through_registers_and_the_stack() {
        // mov rbx, rdi; lea r14, [rbx + 0x38]
        let copied = [0x48, 0x89, 0xfb, 0x4c, 0x8d, 0x73, 0x38];
        assert_eq!(after(&copied, Register::R14), Some(0x38));
        // push rax; sub rsp, 0x20; mov [rsp + 8], rdi; add rdi, 0x10; mov rax, [rsp + 8]
        let spilled = [
            0x50, 0x48, 0x83, 0xec, 0x20, 0x48, 0x89, 0x7c, 0x24, 0x08, 0x48, 0x83, 0xc7, 0x10,
            0x48, 0x8b, 0x44, 0x24, 0x08,
        ];
        assert_eq!(after(&spilled, Register::RAX), Some(0));
        assert_eq!(after(&spilled, Register::RDI), Some(0x10));
    }

    #[test]
    fn what_is_overwritten_is_forgotten() {
        // mov [rsp + 8], rdi; mov dword [rsp + 12], 1; mov rax, [rsp + 8]
        let half = [
            0x48, 0x89, 0x7c, 0x24, 0x08, 0xc7, 0x44, 0x24, 0x0c, 1, 0, 0, 0, 0x48, 0x8b, 0x44,
            0x24, 0x08,
        ];
        assert_eq!(after(&half, Register::RAX), None);
        // xchg rax, rdi
        assert_eq!(after(&[0x48, 0x97], Register::RDI), None);
        // mov rdi, [rdi]
        assert_eq!(after(&[0x48, 0x8b, 0x3f], Register::RDI), None);
    }
}
