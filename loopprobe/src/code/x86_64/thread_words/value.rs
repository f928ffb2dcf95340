//! What a register or a stack slot is known to hold while thread-local words are looked for.

use std::collections::HashMap;

use iced_x86::{Instruction, OpKind, Register};
use serde::{Deserialize, Serialize};

use crate::{code::x86_64::registers::CALLER_SAVED, elf::VirtAddr};

/// Where a thread-local variable lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ThreadPlace {
    /// So many bytes from the thread pointer.
    Fixed(i64),
    /// So many bytes into the thread's block of a module, whose number the loader puts into the
    /// word at `slot`.
    InModule {
        /// The word.
        slot: VirtAddr,
        /// How many.
        offset: i64,
    },
}

impl ThreadPlace {
    /// The same, further on.
    pub(crate) fn plus(self, bytes: i64) -> Self {
        match self {
            Self::Fixed(offset) => Self::Fixed(offset.wrapping_add(bytes)),
            Self::InModule { slot, offset } => Self::InModule {
                slot,
                offset: offset.wrapping_add(bytes),
            },
        }
    }
}

/// What a register or a word of the stack is known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A number, or an address of the image.
    Number(u64),
    /// The address of a thread-local variable.
    Thread(ThreadPlace),
    /// The first argument of the function where the sweep began, and a distance.
    Argument(i64),
    /// The word of interest of that argument.
    Wanted,
}

impl Value {
    /// The address so many bytes on.
    pub(super) fn plus(self, bytes: i64) -> Option<Self> {
        match self {
            Self::Number(number) => Some(Self::Number(number.wrapping_add_signed(bytes))),
            Self::Thread(place) => Some(Self::Thread(place.plus(bytes))),
            Self::Argument(offset) => Some(Self::Argument(offset.wrapping_add(bytes))),
            Self::Wanted => None,
        }
    }

    /// The sum of both: one of them must be a number.
    pub(super) fn sum(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Number(number), value) | (value, Self::Number(number)) => {
                value.plus(number.cast_signed())
            }
            _ => None,
        }
    }
}

/// Where an instruction's memory operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Value(Value),
    /// So many bytes from the stack pointer.
    Stack(i64),
}

/// Registers in which functions get what they work on.
const ARGUMENTS: [Register; 7] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
    Register::RAX,
];

/// What is known of registers and of the function's own stack.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    registers: [Option<Value>; 16],
    stack: HashMap<i64, Value>,
}

impl State {
    /// The first argument of a function is of interest.
    pub(super) fn of_argument() -> Self {
        let mut state = Self::default();
        state.set(Register::RDI, Some(Value::Argument(0)));
        state
    }

    pub(super) fn get(&self, register: Register) -> Option<Value> {
        self.registers[index(register)?]
    }

    pub(super) fn set(&mut self, register: Register, value: Option<Value>) {
        if let Some(index) = index(register) {
            self.registers[index] = value;
        }
    }

    pub(super) fn store(&mut self, slot: i64, value: Option<Value>) {
        match value {
            Some(value) => self.stack.insert(slot, value),
            None => self.stack.remove(&slot),
        };
    }

    pub(super) fn load(&self, slot: i64) -> Option<Value> {
        self.stack.get(&slot).copied()
    }

    /// Forgets what a call may have changed.
    pub(super) fn after_call(&mut self) {
        for register in CALLER_SAVED {
            self.set(register, None);
        }
    }

    /// What a callee knows: what is in the registers of arguments. What it saves of others is not
    /// its own.
    pub(super) fn for_callee(&self) -> Self {
        let mut callee = Self::default();
        for register in ARGUMENTS {
            callee.set(register, self.get(register));
        }
        callee
    }

    /// Whether a callee gets a value of a kind.
    pub(super) fn passes(&self, is_it: impl Fn(Value) -> bool) -> bool {
        ARGUMENTS
            .iter()
            .any(|register| self.get(*register).is_some_and(&is_it))
    }

    /// Where the memory operand of an instruction lies.
    pub(super) fn address(&self, instruction: &Instruction) -> Option<Address> {
        let displacement = instruction.memory_displacement64();
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        if base == Register::RSP && index == Register::None {
            return Some(Address::Stack(displacement.cast_signed()));
        }
        let based = match base {
            // The decoder has added the instruction's place.
            Register::RIP | Register::None => Value::Number(displacement),
            _ => self.get(base)?.plus(displacement.cast_signed())?,
        };
        let value = match (index, instruction.memory_index_scale()) {
            (Register::None, _) => based,
            (index, 1) => based.sum(self.get(index)?)?,
            _ => return None,
        };
        if instruction.segment_prefix() != Register::FS {
            return Some(Address::Value(value));
        }
        let Value::Number(offset) = value else {
            return None;
        };
        Some(Address::Value(Value::Thread(ThreadPlace::Fixed(
            offset.cast_signed(),
        ))))
    }

    /// The value of an operand that is a register or a number.
    pub(super) fn operand(&self, instruction: &Instruction, operand: u32) -> Option<Value> {
        match instruction.op_kind(operand) {
            OpKind::Register => self.get(instruction.op_register(operand)),
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => Some(Value::Number(instruction.immediate(operand))),
            _ => None,
        }
    }
}

fn index(register: Register) -> Option<usize> {
    let full = register.full_register();
    (full.is_gpr64() && full != Register::RSP).then(|| full.number())
}
