//! What registers and words on the stack hold inside one function, up to equality: a value that one
//! instruction made, and a distance from it.

use std::collections::BTreeMap;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use super::super::registers::CALLER_SAVED;
use crate::elf::VirtAddr;

/// Which instruction or block made a value, and a distance from it.
pub(super) type Value = (u64, i64);

/// Words of the stack that are kept track of.
const MAX_SLOTS: usize = 64;
/// Marks what a register holds where two ways meet, by the address of the block.
const MERGED: u64 = 1 << 63;

/// What is known at one point of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Values {
    registers: [Value; 16],
    /// Words on the stack, by place.
    slots: BTreeMap<Value, Value>,
    /// What the caller may have given as a context.
    contexts: [Value; 2],
}

/// Where `Future::poll` is given its context: behind the future, and behind the place of a result
/// that is too large for registers. Source: System V ABI for x86-64, section 3.2.3.
const CONTEXTS: [Register; 2] = [Register::RSI, Register::RDX];

/// A number for what a register holds from an address on; addresses have less than 60 bits.
fn made(at: u64, register: usize) -> u64 {
    (at << 4 | register as u64) & !MERGED
}

/// What a call leaves in the registers of its result.
pub(super) fn results_of(call: &Instruction) -> [Value; 2] {
    [Register::RAX, Register::RDX].map(|register| (made(call.ip(), register.number()), 0))
}

impl Values {
    /// Whatever the caller has left there.
    pub(super) fn at_entry(function: VirtAddr) -> Self {
        // No instruction of the function lies before it.
        let before = function.0.wrapping_sub(1);
        Self {
            registers: std::array::from_fn(|register| (made(before, register), 0)),
            slots: BTreeMap::new(),
            contexts: CONTEXTS.map(|register| (made(before, register.number()), 0)),
        }
    }

    /// What is known where two ways meet at a block.
    pub(super) fn meet(&self, other: &Self, block: VirtAddr) -> Self {
        let mut slots = self.slots.clone();
        slots.retain(|place, value| other.slots.get(place) == Some(value));
        let merged = |register| {
            if self.registers[register] == other.registers[register] {
                self.registers[register]
            } else {
                (made(block.0, register) | MERGED, 0)
            }
        };
        Self {
            registers: std::array::from_fn(merged),
            slots,
            contexts: self.contexts,
        }
    }

    /// Whether a call here passes on the context that the function was given.
    pub(super) fn has_context(&self) -> bool {
        let mut given = CONTEXTS
            .into_iter()
            .filter_map(|register| self.get(register));
        given.any(|value| self.contexts.contains(&value))
    }

    /// What a register holds.
    pub(super) fn get(&self, register: Register) -> Option<Value> {
        let full = register.full_register();
        full.is_gpr64().then(|| self.registers[full.number()])
    }

    fn set(&mut self, register: Register, value: Value) {
        let full = register.full_register();
        if full.is_gpr64() {
            self.registers[full.number()] = value;
        }
    }

    /// The place in memory that an instruction names by one register.
    pub(super) fn place(&self, instruction: &Instruction) -> Option<Value> {
        let is_plain = instruction.memory_index() == Register::None;
        let value = self.get(instruction.memory_base()).filter(|_| is_plain)?;
        Some(plus(
            value,
            instruction.memory_displacement64().cast_signed(),
        ))
    }

    /// The word on the stack that an instruction names.
    fn slot(&self, instruction: &Instruction) -> Option<Value> {
        let place = self.place(instruction)?;
        let stack = self.get(Register::RSP)?;
        (place.0 == stack.0).then_some(place)
    }

    fn move_stack(&mut self, by: i64) {
        let stack = self.registers[Register::RSP.number()];
        self.set(Register::RSP, plus(stack, by));
    }

    fn push(&mut self, value: Option<Value>) {
        self.move_stack(-8);
        let stack = self.registers[Register::RSP.number()];
        self.slots.remove(&stack);
        if let Some(value) = value {
            self.keep(stack, value);
        }
    }

    fn pop(&mut self) -> Option<Value> {
        let stack = self.registers[Register::RSP.number()];
        self.move_stack(8);
        self.slots.remove(&stack)
    }

    fn keep(&mut self, place: Value, value: Value) {
        if self.slots.len() < MAX_SLOTS {
            self.slots.insert(place, value);
        }
    }

    /// Applies an instruction.
    pub(super) fn apply(
        &mut self,
        instruction: &Instruction,
        factory: &mut InstructionInfoFactory,
    ) {
        let (first, second) = (instruction.op0_register(), instruction.op1_register());
        let is_to_register = instruction.op0_kind() == OpKind::Register;
        let is_whole = is_to_register && first.is_gpr64();
        let is_from_memory = instruction.op1_kind() == OpKind::Memory;
        let new = |register: Register| {
            let number = register.full_register().number();
            (made(instruction.ip(), number), 0)
        };
        match instruction.mnemonic() {
            Mnemonic::Push => self.push(self.get(first).filter(|_| is_whole)),
            Mnemonic::Pop if is_whole => {
                let value = self.pop();
                self.set(first, value.unwrap_or_else(|| new(first)));
            }
            Mnemonic::Mov if is_whole && is_from_memory => {
                let slot = self.slot(instruction);
                let value = slot.and_then(|slot| self.slots.get(&slot).copied());
                self.set(first, value.unwrap_or_else(|| new(first)));
            }
            Mnemonic::Mov if is_whole && second.is_gpr64() => {
                let value = self.get(second).unwrap_or_else(|| new(first));
                self.set(first, value);
            }
            Mnemonic::Mov if !is_to_register && second.is_gpr64() => {
                let value = self.get(second);
                self.forget(instruction, factory);
                if let (Some(slot), Some(value)) = (self.slot(instruction), value) {
                    self.keep(slot, value);
                }
            }
            Mnemonic::Lea if is_whole => {
                let value = self.place(instruction).unwrap_or_else(|| new(first));
                self.set(first, value);
            }
            Mnemonic::Add | Mnemonic::Sub if is_whole && is_number(instruction) => {
                if let Some(value) = self.get(first) {
                    self.set(first, plus(value, added(instruction)));
                }
            }
            Mnemonic::Call => {
                for register in CALLER_SAVED {
                    self.set(register, new(register));
                }
            }
            _ => self.forget(instruction, factory),
        }
    }

    /// Forgets what any other instruction writes.
    fn forget(&mut self, instruction: &Instruction, factory: &mut InstructionInfoFactory) {
        let info = factory.info(instruction);
        for used in info.used_registers() {
            let full = used.register().full_register();
            if is_write(used.access()) && full.is_gpr64() {
                self.set(full, (made(instruction.ip(), full.number()), 0));
            }
        }
        let stack = self.registers[Register::RSP.number()];
        for used in info.used_memory() {
            let Some(base) = self.get(used.base()).filter(|base| base.0 == stack.0) else {
                continue;
            };
            if is_write(used.access()) {
                let (root, from) = plus(base, used.displacement().cast_signed());
                let size = used.memory_size().size() as i64;
                self.slots.retain(|&(other, at), _| {
                    other != root || at.saturating_add(8) <= from || from.saturating_add(size) <= at
                });
            }
        }
    }
}

fn plus((root, distance): Value, by: i64) -> Value {
    (root, distance.wrapping_add(by))
}

/// What an addition or subtraction of a number adds.
fn added(instruction: &Instruction) -> i64 {
    let number = instruction.immediate(1).cast_signed();
    if instruction.mnemonic() == Mnemonic::Add {
        number
    } else {
        number.wrapping_neg()
    }
}

fn is_number(instruction: &Instruction) -> bool {
    !matches!(instruction.op1_kind(), OpKind::Register | OpKind::Memory)
}

fn is_write(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    /// What is known behind some code, at address 0x1000.
    fn after(code: &[u8]) -> Values {
        let mut values = Values::at_entry(VirtAddr(0x1000));
        let mut factory = InstructionInfoFactory::new();
        for instruction in Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE) {
            values.apply(&instruction, &mut factory);
        }
        values
    }

    fn distance(values: &Values, one: Register, other: Register) -> Option<i64> {
        let (one, other) = (values.get(one)?, values.get(other)?);
        (one.0 == other.0).then_some(one.1 - other.1)
    }

    #[test]
    fn an_address_is_followed_through_registers_and_the_stack() {
        // push rbx; mov [rsp + 8], rdi; lea r12, [rdi + 0x18]; call 0; mov rbp, [rsp + 8]
        let code = [
            0x53, 0x48, 0x89, 0x7c, 0x24, 0x08, 0x4c, 0x8d, 0x67, 0x18, 0xe8, 0, 0, 0, 0, 0x48,
            0x8b, 0x6c, 0x24, 0x08,
        ];
        let values = after(&code);
        assert_eq!(distance(&values, Register::R12, Register::RBP), Some(0x18));
        assert_eq!(distance(&values, Register::RDI, Register::RBP), None);
    }

    #[test]
    fn a_call_is_given_the_context_only_if_it_is_the_functions_own() {
        // mov [rsp + 8], rsi; mov rsi, rdi: then mov rdx, [rsp + 8], or lea rdx, [rsp + 8]
        let code = [0x48, 0x89, 0x74, 0x24, 0x08, 0x48, 0x89, 0xfe];
        let own = [&code[..], &[0x48, 0x8b, 0x54, 0x24, 0x08]].concat();
        let other = [&code[..], &[0x48, 0x8d, 0x54, 0x24, 0x08]].concat();
        assert!(after(&own).has_context());
        assert!(!after(&other).has_context());
    }

    #[test]
    fn what_a_call_gives_is_known_where_it_is_kept() {
        // call 0; mov r13, rax; call 0
        let code = [0xe8, 0, 0, 0, 0, 0x49, 0x89, 0xc5, 0xe8, 0, 0, 0, 0];
        let call = Decoder::with_ip(64, &code, 0x1000, DecoderOptions::NONE).decode();
        let values = after(&code);
        let kept = values.get(Register::R13).expect("a value");
        assert!(results_of(&call).contains(&kept));
        let later = values.get(Register::RAX).expect("a value");
        assert!(!results_of(&call).contains(&later));
    }

    #[test]
    fn what_two_ways_leave_in_a_register_is_one_value_only_if_it_is_the_same() {
        // mov rbx, rdi; then nothing, or mov rbx, rsi
        let one = after(&[0x48, 0x89, 0xfb]);
        let other = after(&[0x48, 0x89, 0xfb, 0x48, 0x89, 0xf3]);
        let same = one.meet(&one, VirtAddr(0x2000));
        assert_eq!(distance(&same, Register::RBX, Register::RDI), Some(0));
        let merged = one.meet(&other, VirtAddr(0x2000));
        assert_eq!(distance(&merged, Register::RBX, Register::RDI), None);
        assert_eq!(merged.meet(&one, VirtAddr(0x2000)), merged);
    }

    #[test]
    fn a_word_of_the_stack_that_is_written_again_is_forgotten() {
        // push rdi; mov dword [rsp + 4], 1; pop rbx
        let values = after(&[0x57, 0xc7, 0x44, 0x24, 0x04, 1, 0, 0, 0, 0x5b]);
        assert_eq!(distance(&values, Register::RBX, Register::RDI), None);
        let values = after(&[0x57, 0x5b]);
        assert_eq!(distance(&values, Register::RBX, Register::RDI), Some(0));
    }
}
