//! Follows code from the functions that poll, and collects which thread-local words it uses how.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};

use super::value::{Address, State, ThreadPlace, Value};
use crate::{
    code::x86_64::imports::callee,
    elf::{Image, VirtAddr},
};

/// Instructions that are looked at from one function on.
const MAX_INSTRUCTIONS: usize = 6000;
/// Bytes of a function that are looked at.
const MAX_BYTES: u64 = 6000;
/// The same of one that is looked at for a constant in it.
const MAX_PIECE: u64 = 1 << 16;
/// The same where it is not known where the function ends.
const MAX_UNKNOWN_BYTES: u64 = 3000;
/// How many calls deep.
const MAX_CALLS: u32 = 5;
/// How many calls deep a function is looked at that gets nothing of interest.
const MAX_IDLE_CALLS: u32 = 2;
/// A function that only gives the address of a variable has fewer instructions.
const MAX_GETTER: usize = 40;
/// How many such functions are looked at.
const MAX_GETTERS: usize = 128;

/// A store to a thread-local variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    /// Where.
    pub(crate) place: ThreadPlace,
    /// How many bytes.
    pub(crate) size: u8,
    /// What.
    pub(crate) what: Stored,
}

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stored {
    /// The word of interest.
    Wanted,
    /// This number.
    Number(u64),
    /// Something that is not known.
    Unknown,
}

/// Which calls are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Follow {
    /// Those that are given the word of interest.
    Wanted,
    /// And those that are given the structure that it lies in.
    Argument,
    /// And all others that are near.
    All,
}

/// Looks through code from top to bottom, without following its ways: what is found is evidence, to
/// be counted over several functions, and no proof. Followed are values that come from the thread
/// pointer and from the first argument.
pub(super) struct Sweep<'a> {
    image: &'a Image,
    /// How far the word of interest lies in the structure that the first argument points to.
    wanted: Option<i64>,
    follow: Follow,
    left: usize,
    seen: HashSet<(VirtAddr, u32)>,
    returned: HashMap<VirtAddr, Option<Value>>,
    info: InstructionInfoFactory,
    found: Vec<Store>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(image: &'a Image, follow: Follow, wanted: Option<i64>) -> Self {
        Self {
            image,
            wanted,
            follow,
            left: MAX_INSTRUCTIONS,
            seen: HashSet::new(),
            returned: HashMap::new(),
            info: InstructionInfoFactory::new(),
            found: Vec::new(),
        }
    }

    /// Everything from `start` on, and what it calls.
    pub(super) fn run(mut self, start: VirtAddr) -> Vec<Store> {
        let code = self.code_at(start);
        self.function(code, State::of_argument(), 0);
        self.found
    }

    /// A piece of code, and what it calls, so many calls deep.
    pub(super) fn piece(mut self, code: Range<VirtAddr>, calls: u32) -> Vec<Store> {
        let end = code
            .end
            .min(VirtAddr(code.start.0.saturating_add(MAX_PIECE)));
        self.function(
            code.start..end,
            State::default(),
            MAX_CALLS.saturating_sub(calls),
        );
        self.found
    }

    /// The function that begins at `start`, or a part of it.
    fn code_at(&self, start: VirtAddr) -> Range<VirtAddr> {
        let len = self
            .image
            .function_at(start)
            .map_or(MAX_UNKNOWN_BYTES, |f| {
                f.end.0.saturating_sub(start.0).min(MAX_BYTES)
            });
        start..VirtAddr(start.0.saturating_add(len))
    }

    /// Looks at a function; what it returns, if that is the address of a thread-local variable.
    fn function(&mut self, own: Range<VirtAddr>, mut state: State, calls: u32) -> Option<Value> {
        let image = self.image;
        let len = own.end.0.saturating_sub(own.start.0);
        let bytes = if image.is_code(own.start) {
            image.bytes_up_to(own.start, len as usize)
        } else {
            &[]
        };
        let start = own.start;
        let mut decoder = Decoder::with_ip(64, bytes, start.0, DecoderOptions::NONE);
        let (mut instruction, mut returned) = (Instruction::default(), None);
        while decoder.can_decode() && self.left > 0 {
            self.left -= 1;
            decoder.decode_out(&mut instruction);
            match instruction.flow_control() {
                FlowControl::Return => {
                    returned = returned.or(thread_local(state.get(Register::RAX)));
                }
                FlowControl::Call | FlowControl::IndirectCall => {
                    self.call(&instruction, &own, &mut state, calls);
                }
                FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                    // A tail call, unless it stays in the function.
                    let target = callee(image, &instruction);
                    if let Some(target) = target.filter(|target| !own.contains(target)) {
                        let value = self.called(target, &state, calls);
                        returned = returned.or(value);
                    }
                }
                _ => self.apply(&instruction, &mut state),
            }
        }
        returned
    }

    fn call(
        &mut self,
        instruction: &Instruction,
        own: &Range<VirtAddr>,
        state: &mut State,
        calls: u32,
    ) {
        let argument = state.get(Register::RDI);
        let value = match argument {
            // `__tls_get_addr`, which takes the address of a module's number and a distance.
            Some(Value::Number(slot)) if self.image.is_thread_local_module(VirtAddr(slot)) => {
                let offset = self.image.u64_at(VirtAddr(slot.saturating_add(8)));
                Some(Value::Thread(ThreadPlace::InModule {
                    slot: VirtAddr(slot),
                    offset: offset.unwrap_or(0).cast_signed(),
                }))
            }
            _ => {
                let target = callee(self.image, instruction);
                let target = target.filter(|target| !own.contains(target));
                target.and_then(|target| self.called(target, state, calls))
            }
        };
        state.after_call();
        state.set(Register::RAX, value);
    }

    fn called(&mut self, target: VirtAddr, state: &State, calls: u32) -> Option<Value> {
        if !self.image.is_code(target) {
            return None;
        }
        let is_of_interest = match self.follow {
            Follow::Wanted => state.passes(|value| value == Value::Wanted),
            Follow::Argument => {
                state.passes(|value| matches!(value, Value::Wanted | Value::Argument(_)))
            }
            Follow::All => {
                state.passes(|value| !matches!(value, Value::Number(_))) || calls <= MAX_IDLE_CALLS
            }
        };
        let is_of_interest = is_of_interest || self.wanted.is_none();
        if calls < MAX_CALLS && is_of_interest && self.seen.insert((target, calls)) {
            let code = self.code_at(target);
            let value = self.function(code, state.for_callee(), calls + 1);
            if value.is_some() {
                self.returned.insert(target, value);
                return value;
            }
        }
        self.getter(target, calls)
    }

    /// What a small function returns whatever it gets; it may get it from another one.
    fn getter(&mut self, target: VirtAddr, calls: u32) -> Option<Value> {
        if let Some(known) = self.returned.get(&target) {
            return *known;
        }
        if calls > MAX_CALLS || self.returned.len() >= MAX_GETTERS {
            return None;
        }
        self.returned.insert(target, None);
        let left = std::mem::replace(&mut self.left, MAX_GETTER);
        let found = self.found.len();
        let in_getter = calls.max(MAX_CALLS - 1) + 1;
        let value = self.function(self.code_at(target), State::default(), in_getter);
        self.found.truncate(found);
        self.left = left;
        self.returned.insert(target, value);
        value
    }

    fn apply(&mut self, instruction: &Instruction, state: &mut State) {
        match instruction.mnemonic() {
            Mnemonic::Mov if instruction.op_count() == 2 => self.transfer(instruction, state),
            Mnemonic::Lea => {
                let value = match state.address(instruction) {
                    Some(Address::Value(value)) => Some(value),
                    _ => None,
                };
                state.set(instruction.op0_register(), value);
            }
            Mnemonic::Add if instruction.op0_kind() == OpKind::Register => {
                let first = state.get(instruction.op0_register());
                let second = match instruction.op1_kind() {
                    OpKind::Memory => self.loaded(instruction, state),
                    _ => state.operand(instruction, 1),
                };
                let sum = first.zip(second).and_then(|(a, b)| a.sum(b));
                state.set(instruction.op0_register(), sum);
            }
            Mnemonic::Xor if is_zeroing(instruction) => {
                state.set(instruction.op0_register(), Some(Value::Number(0)));
            }
            _ => self.clobber(instruction, state),
        }
    }

    fn transfer(&mut self, instruction: &Instruction, state: &mut State) {
        let value = match instruction.op1_kind() {
            OpKind::Memory => self.loaded(instruction, state),
            _ => state.operand(instruction, 1),
        };
        if instruction.op0_kind() == OpKind::Register {
            let register = instruction.op0_register();
            // A part of a register says nothing of the whole; a 16-bit number is kept, to be
            // stored.
            let is_number = register.size() == 2 && matches!(value, Some(Value::Number(_)));
            state.set(
                register,
                value.filter(|_| register.size() >= 4 || is_number),
            );
            return;
        }
        let size = instruction.memory_size().size();
        match state.address(instruction) {
            Some(Address::Value(Value::Thread(place))) => {
                let what = match value {
                    Some(Value::Wanted) => Stored::Wanted,
                    Some(Value::Number(number)) => Stored::Number(number),
                    _ => Stored::Unknown,
                };
                self.found.push(Store {
                    place,
                    size: size as u8,
                    what,
                });
            }
            Some(Address::Stack(slot)) => state.store(slot, value.filter(|_| size == 8)),
            _ => {}
        }
    }

    /// What an instruction loads from memory.
    fn loaded(&self, instruction: &Instruction, state: &State) -> Option<Value> {
        match state.address(instruction)? {
            Address::Stack(slot) => state.load(slot),
            // The first word of the thread's own variables is the thread pointer itself.
            Address::Value(Value::Thread(ThreadPlace::Fixed(0))) => {
                Some(Value::Thread(ThreadPlace::Fixed(0)))
            }
            Address::Value(Value::Argument(offset)) => {
                (Some(offset) == self.wanted).then_some(Value::Wanted)
            }
            Address::Value(Value::Number(address)) => {
                let pointer = self.image.pointer_at(VirtAddr(address))?;
                Some(Value::Number(pointer.0))
            }
            Address::Value(_) => None,
        }
    }

    /// Forgets what an instruction writes.
    fn clobber(&mut self, instruction: &Instruction, state: &mut State) {
        let info = self.info.info(instruction);
        for used in info.used_registers() {
            let is_read = matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            );
            if !is_read {
                state.set(used.register(), None);
            }
        }
    }
}

fn thread_local(value: Option<Value>) -> Option<Value> {
    value.filter(|value| matches!(value, Value::Thread(_)))
}

fn is_zeroing(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == instruction.op1_register()
}
