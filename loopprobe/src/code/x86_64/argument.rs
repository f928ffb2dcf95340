//! Where a function's first argument goes: into the functions that it hands its work to, and to an
//! instruction there that is cheap to probe.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::{
    entry::{decode, is_emulated, pushed, written},
    registers::index,
};
use crate::elf::{Image, VirtAddr};

/// How far it is followed. Fifteen instructions and a jump through the GOT, twice, were seen.
const MAX_STEPS: usize = 64;
/// How far behind an address that is passed the argument may lie.
const MAX_OFFSET: i64 = 128;

/// Registers of arguments, the likeliest first. Source: System V ABI for x86-64, section 3.2.3.
const ARGUMENTS: [Register; 6] = [
    Register::RSI,
    Register::RDI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

/// An instruction that every call of a function comes to, once, and where its first argument is
/// then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgumentPoint {
    /// The instruction.
    pub address: VirtAddr,
    /// A register, by the number that instructions have for it.
    pub register: u32,
    /// `None` if the register holds the argument; else it holds an address, and the argument lies
    /// so many bytes behind it.
    pub offset: Option<i16>,
    /// A register that holds an address of the image then. Where it holds another one, somebody
    /// else has come to the instruction, for something else.
    pub guard: Option<(u32, VirtAddr)>,
    /// Whether the kernel emulates the instruction.
    pub emulated: bool,
}

impl ArgumentPoint {
    /// Where the argument is: `rsi`, `[rdi+8]`.
    pub fn place(&self) -> String {
        const NAMES: [&str; 16] = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15",
        ];
        let register = NAMES.get(self.register as usize).unwrap_or(&"?");
        match self.offset {
            None => (*register).to_owned(),
            Some(offset) => format!("[{register}+{offset}]"),
        }
    }
}

/// What is known of a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Value {
    #[default]
    Unknown,
    /// The argument.
    Argument,
    /// An address on the stack, in bytes from the stack pointer at the entry of the function that
    /// is walked through.
    Stack(i64),
    /// An address of the image.
    Constant(VirtAddr),
}

/// Where the argument is handed to another function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Passed {
    register: Register,
    offset: Option<i16>,
    guard: Option<(Register, VirtAddr)>,
}

/// What is known at one instruction of a function.
#[derive(Clone, Debug, Default)]
struct State {
    values: [Value; 16],
    /// Where on the stack the argument has been stored.
    stored: Vec<i64>,
    /// How far the stack pointer lies below that at the entry.
    below: i64,
}

impl State {
    fn at_entry(argument: Register) -> Self {
        let mut state = Self::default();
        state.set(argument, Value::Argument);
        state
    }

    fn get(&self, register: Register) -> Value {
        match register {
            Register::RSP => Value::Stack(-self.below),
            _ => index(register).map_or(Value::Unknown, |index| self.values[index]),
        }
    }

    fn set(&mut self, register: Register, value: Value) {
        if let Some(index) = index(register) {
            self.values[index] = value;
        }
    }

    /// Where an operand in memory lies on the stack.
    fn slot(&self, instruction: &Instruction) -> Option<i64> {
        if instruction.memory_index() != Register::None {
            return None;
        }
        match self.get(instruction.memory_base()) {
            Value::Stack(base) => {
                base.checked_add(instruction.memory_displacement64().cast_signed())
            }
            _ => None,
        }
    }

    /// After an instruction that goes on to the next one.
    fn step(&mut self, instruction: &Instruction) {
        let (to, from) = (instruction.op0_register(), instruction.op1_register());
        let kinds = (instruction.op0_kind(), instruction.op1_kind());
        let value = match (instruction.mnemonic(), kinds) {
            (Mnemonic::Mov, (OpKind::Register, OpKind::Register)) if from.is_gpr64() => {
                Some(self.get(from))
            }
            (Mnemonic::Lea, _) if instruction.is_ip_rel_memory_operand() => {
                let address = VirtAddr(instruction.ip_rel_memory_address());
                Some(Value::Constant(address))
            }
            (Mnemonic::Lea, _) => self.slot(instruction).map(Value::Stack),
            _ => None,
        };
        if kinds.0 == OpKind::Memory {
            self.store(instruction, from);
        }
        for register in written(instruction) {
            self.set(register, Value::Unknown);
        }
        if let Some(value) = value.filter(|_| to.is_gpr64()) {
            self.set(to, value);
        }
        self.below += i64::from(pushed(instruction));
    }

    fn store(&mut self, instruction: &Instruction, from: Register) {
        let Some(slot) = self.slot(instruction) else {
            return;
        };
        let end = slot + instruction.memory_size().size() as i64;
        self.stored
            .retain(|stored| stored + 8 <= slot || *stored >= end);
        let is_move = instruction.mnemonic() == Mnemonic::Mov && from.is_gpr64();
        if is_move && self.get(from) == Value::Argument {
            self.stored.push(slot);
        }
    }

    /// How a function that is called now gets the argument, in a register or behind an address.
    fn passed(&self) -> Option<Passed> {
        // Of several the second one's: the first is the scheduler, as a rule.
        let holds = |register: &Register| self.get(*register) == Value::Argument;
        if let Some(register) = ARGUMENTS.into_iter().find(holds) {
            return Some(Passed {
                register,
                offset: None,
                guard: None,
            });
        }
        let constant = |register: Register| match self.get(register) {
            Value::Constant(address) => Some((register, address)),
            _ => None,
        };
        let guard = ARGUMENTS.into_iter().find_map(constant);
        ARGUMENTS.into_iter().find_map(|register| {
            let Value::Stack(base) = self.get(register) else {
                return None;
            };
            let mut offsets = self.stored.iter().map(|slot| slot - base);
            let offset = offsets.find(|offset| (0..MAX_OFFSET).contains(offset))?;
            Some(Passed {
                register,
                offset: Some(offset as i16),
                guard,
            })
        })
    }
}

/// Follows the first argument of the function at `entry` into what that hands its work to, and
/// gives an instruction that the kernel emulates: the first one of the last function in which there
/// is one while the argument is still where its caller has put it. Other callers of that function
/// put the same thing there, so a probe sees their calls as well. Without an emulated one it is the
/// function's own first instruction; `None` if there is none.
pub(in crate::code) fn argument_point(image: &Image, entry: VirtAddr) -> Option<ArgumentPoint> {
    let first = Passed {
        register: Register::RDI,
        offset: None,
        guard: None,
    };
    let mut best = ArgumentPoint {
        address: entry,
        register: index(first.register)? as u32,
        offset: None,
        guard: None,
        emulated: false,
    };
    let mut instruction = decode(image, entry)?;
    let (mut passed, mut state) = (first, State::at_entry(first.register));
    // Whether the argument is still where the caller has put it, and no point has been found there.
    let mut is_there = true;
    for _ in 0..MAX_STEPS {
        if is_there && is_emulated(&instruction) {
            is_there = false;
            best = point(&instruction, &passed)?;
        }
        let next = if instruction.flow_control() == FlowControl::Next {
            state.step(&instruction);
            is_there &= still_there(&passed, &instruction);
            VirtAddr(instruction.next_ip())
        } else {
            let handed = handed_to(image, &instruction, state.below).zip(state.passed());
            let Some((function, to)) = handed else {
                break;
            };
            (passed, state) = (to, State::default());
            if to.offset.is_none() {
                state = State::at_entry(to.register);
            }
            is_there = true;
            function
        };
        match decode(image, next) {
            Some(decoded) => instruction = decoded,
            None => break,
        }
    }
    Some(best)
}

fn point(instruction: &Instruction, passed: &Passed) -> Option<ArgumentPoint> {
    let guard = passed
        .guard
        .and_then(|(register, address)| Some((index(register)? as u32, address)));
    Some(ArgumentPoint {
        address: VirtAddr(instruction.ip()),
        register: index(passed.register)? as u32,
        offset: passed.offset,
        guard,
        emulated: true,
    })
}

/// Whether an instruction leaves alone what says where the argument is.
fn still_there(passed: &Passed, instruction: &Instruction) -> bool {
    let guard = passed.guard.map(|(register, _)| register);
    !written(instruction).any(|register| register == passed.register || Some(register) == guard)
}

/// The function that `instruction`, whose function has lowered the stack pointer so far, hands all
/// of its function's work to: by a jump with the stack as it was, or by a call that it returns
/// after.
fn handed_to(image: &Image, instruction: &Instruction, below: i64) -> Option<VirtAddr> {
    let is_whole = match instruction.flow_control() {
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => below == 0,
        FlowControl::Call | FlowControl::IndirectCall => {
            returns_at(image, VirtAddr(instruction.next_ip()))
        }
        _ => false,
    };
    let target = match instruction.flow_control() {
        FlowControl::UnconditionalBranch | FlowControl::Call => {
            Some(VirtAddr(instruction.near_branch_target()))
        }
        _ if instruction.is_ip_rel_memory_operand() => {
            image.pointer_at(VirtAddr(instruction.ip_rel_memory_address()))
        }
        _ => None,
    };
    target.filter(|_| is_whole)
}

/// Whether nothing but the way out of a function is at an address.
fn returns_at(image: &Image, address: VirtAddr) -> bool {
    let Some(first) = decode(image, address) else {
        return false;
    };
    let gives_back = match first.mnemonic() {
        Mnemonic::Pop => true,
        Mnemonic::Add => first.op0_register() == Register::RSP,
        _ => false,
    };
    let second = decode(image, VirtAddr(first.next_ip()));
    gives_back && second.is_some_and(|second| second.mnemonic() == Mnemonic::Ret)
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    fn passed(bytes: &[u8]) -> Option<Passed> {
        let mut state = State::at_entry(Register::RDI);
        for instruction in Decoder::with_ip(64, bytes, 0x1000, DecoderOptions::NONE) {
            state.step(&instruction);
        }
        state.passed()
    }

    #[test]
    fn the_argument_is_followed_from_register_to_register() {
        // mov rsi, rdi; mov rax, [rdi+0x10]; mov rdi, [rax+0x40]; add rdi, rsi
        let moved = [
            0x48, 0x89, 0xfe, 0x48, 0x8b, 0x47, 0x10, 0x48, 0x8b, 0x78, 0x40, 0x48, 0x01, 0xf7,
        ];
        let expected = Passed {
            register: Register::RSI,
            offset: None,
            guard: None,
        };
        assert_eq!(passed(&moved), Some(expected));
    }

    #[test]
    fn the_argument_is_followed_into_what_is_passed_by_its_address() {
        // sub rsp, 0x28; mov [rsp+0x18], rdi; lea rsi, [rip+0x100]; lea rdi, [rsp+0x10]
        let stored = [
            0x48, 0x83, 0xec, 0x28, 0x48, 0x89, 0x7c, 0x24, 0x18, 0x48, 0x8d, 0x35, 0x00, 0x01,
            0x00, 0x00, 0x48, 0x8d, 0x7c, 0x24, 0x10,
        ];
        let expected = Passed {
            register: Register::RDI,
            offset: Some(8),
            guard: Some((Register::RSI, VirtAddr(0x1110))),
        };
        assert_eq!(passed(&stored), Some(expected));
        // movb [rsp+0x18], 0 in between
        let mut overwritten = stored.to_vec();
        overwritten.splice(9..9, [0xc6, 0x44, 0x24, 0x18, 0x00]);
        assert_eq!(passed(&overwritten), None);
    }

    #[test]
    fn half_of_it_is_not_it() {
        // mov esi, edi; xor edi, edi
        assert_eq!(passed(&[0x89, 0xfe, 0x31, 0xff]), None);
        // push rdi; push rbp
        assert!(passed(&[0x57, 0x55]).is_some());
    }
}
