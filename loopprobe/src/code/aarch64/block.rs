//! Decodes straight-line A64 code into the few operations that walks follow, and its end.

use super::{
    code,
    constants::{CALLER_SAVED_BITS, Constants},
    instruction::{Instruction, Kind, LENGTH, Register, STACK},
};
use crate::{
    code::{
        block::{Block, Exit, MAX_BYTES, Op, Place},
        registers::Gpr,
    },
    elf::{Image, VirtAddr},
};

/// Where the first and the third argument are: `x0`, `x2`. Source: "Procedure Call Standard for the
/// Arm 64-bit Architecture" (2024Q3), section 6.8.2.
pub(in crate::code) const FIRST_AND_THIRD: [Gpr; 2] = [Gpr::new(0), Gpr::new(2)];

/// The register with this number. Number 31 is the stack pointer, or always zero.
fn gpr(register: Register) -> Gpr {
    match register {
        STACK => Gpr::NONE,
        _ => Gpr::new(register),
    }
}

/// An entry of a table that has been loaded: into which register, by which address, its bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    to: Register,
    table: Register,
    size: u8,
}

/// Decodes the block at `start`. It ends with its function at the latest.
pub(in crate::code) fn decode(image: &Image, start: VirtAddr) -> Block {
    let len = image.function_at(start).map_or(MAX_BYTES, |function| {
        (function.end.0 - start.0).min(MAX_BYTES as u64 + LENGTH) as usize
    });
    let mut decoder = Decoder {
        image,
        constants: Constants::default(),
        entry: None,
        jump: None,
        ops: Vec::new(),
    };
    let mut end = start;
    for (at, instruction) in code(image, start, len) {
        if at.0 - start.0 >= MAX_BYTES as u64 {
            return decoder.block(Exit::Next(at), at);
        }
        end = VirtAddr(at.0 + LENGTH);
        if let Some(exit) = decoder.exit(&instruction, end) {
            return decoder.block(exit, end);
        }
        decoder.apply(&instruction);
    }
    decoder.block(Exit::End, end)
}

struct Decoder<'a> {
    image: &'a Image,
    constants: Constants,
    /// The last entry of a table that has been loaded.
    entry: Option<Entry>,
    /// The last sum of a base and such an entry: in which register, and the jump through it.
    jump: Option<(Register, Exit)>,
    ops: Vec<Op>,
}

impl Decoder<'_> {
    fn block(self, exit: Exit, end: VirtAddr) -> Block {
        let ops = self.ops;
        Block { ops, exit, end }
    }

    fn exit(&self, instruction: &Instruction, next: VirtAddr) -> Option<Exit> {
        match instruction.kind {
            Kind::Jump(target) => Some(Exit::Jump(target)),
            Kind::Branch(taken) => Some(Exit::Branch { taken, next }),
            Kind::JumpThrough(register) => Some(self.indirect_jump(register)),
            Kind::Return => Some(Exit::Return),
            Kind::Trap => Some(Exit::End),
            _ => None,
        }
    }

    fn indirect_jump(&self, register: Register) -> Exit {
        let through_word = self.constants.address(register);
        match (through_word, self.jump) {
            (Some(target), _) => Exit::Jump(target),
            (None, Some((sum, exit))) if sum == register => exit,
            _ => Exit::Unknown,
        }
    }

    /// Adds what an instruction does.
    fn apply(&mut self, instruction: &Instruction) {
        if self.jump.is_some_and(|(sum, _)| instruction.may_write(sum)) {
            self.jump = None;
        }
        self.follow_table(instruction.kind);
        let op = self.op(instruction.kind);
        self.constants.apply(self.image, instruction);
        match (instruction.kind, op) {
            // The table's address is asked for at the jump.
            (Kind::Sum(to, ..), _) if self.entry.is_some_and(|entry| entry.table == to) => {}
            // Made of a word that the loader fills in.
            (Kind::Load(to, ..), _) => {
                let loaded = self.constants.address(to);
                let op = loaded.map_or(Op::Clobber(gpr(to)), |it| Op::Address(gpr(to), it));
                self.ops.push(op);
            }
            (_, Some(op)) => self.ops.push(op),
            (_, None) => {
                let written = (0..STACK).filter(|register| instruction.may_write(*register));
                self.ops.extend(written.map(|one| Op::Clobber(gpr(one))));
            }
        }
    }

    /// What an instruction does, if it is followed.
    fn op(&self, kind: Kind) -> Option<Op> {
        match kind {
            Kind::Address(to, address) => Some(Op::Address(gpr(to), address)),
            Kind::Page(to, page) => Some(Op::Page(gpr(to), page)),
            // What is told from the stack pointer is not followed.
            Kind::Add(to, STACK, _) => Some(Op::Clobber(gpr(to))),
            Kind::Add(to, from, 0) if to != from => Some(Op::Copy(gpr(to), gpr(from))),
            Kind::Add(to, from, number) => Some(Op::Add(gpr(to), gpr(from), number)),
            Kind::Sum(to, first, second) => Some(Op::Sum(gpr(to), gpr(first), gpr(second))),
            Kind::ThreadPointer(to) => Some(Op::ThreadLocal(gpr(to))),
            Kind::LoadPart(to, base, offset, 1) if base != STACK => {
                Some(Op::TestByte(gpr(to), place(base, offset)))
            }
            Kind::LoadEntry(to, base, index, 1) if base != STACK => {
                let offset = self.constants.number(index)?;
                Some(Op::TestByte(gpr(to), place(base, offset.cast_signed())))
            }
            Kind::Store(base, offset, size @ (1 | 2 | 4)) if base != STACK => {
                Some(Op::Store(place(base, offset), size))
            }
            // Of wider entries the number may count them.
            Kind::StoreEntry(base, index, 1) if base != STACK => {
                let offset = self.constants.number(index)?;
                Some(Op::Store(place(base, offset.cast_signed()), 1))
            }
            Kind::Call(target) => Some(Op::Call(Some(target), CALLER_SAVED_BITS)),
            Kind::CallThrough(register) => Some(Op::Call(
                self.constants.address(register),
                CALLER_SAVED_BITS,
            )),
            _ => None,
        }
    }

    /// A jump table: `ldrb`, `ldrh` or `ldrsw` of an entry, and its sum with where it counts from,
    /// an `adr` or the table itself. Source: `AArch64CompressJumpTables.cpp` and the expansion of
    /// `JumpTableDest8`, `16` and `32` in `AArch64AsmPrinter.cpp` (LLVM 18).
    fn follow_table(&mut self, kind: Kind) {
        match kind {
            Kind::LoadEntry(to, table, _, size) => self.entry = Some(Entry { to, table, size }),
            Kind::Sum(to, first, second) => {
                let Some(entry) = self.entry.filter(|entry| entry.to == second) else {
                    return;
                };
                let table = gpr(entry.table);
                let exit = match (entry.size, self.constants.address(first)) {
                    (4, _) if first == entry.table => Some(Exit::RelativeTable(table)),
                    (size @ (1 | 2), Some(base)) => Some(Exit::ShortTable { table, base, size }),
                    _ => None,
                };
                self.jump = exit.map(|exit| (to, exit));
            }
            _ => {}
        }
    }
}

fn place(base: Register, offset: i64) -> Place {
    Place {
        base: gpr(base),
        displacement: offset.cast_unsigned(),
    }
}
