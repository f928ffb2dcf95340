//! The few forms of A64 instructions that are followed, and which registers any other one writes.
//!
//! All encodings are those of the Arm Architecture Reference Manual for A-profile (DDI 0487),
//! chapters C4 ("A64 Instruction Set Encoding") and C6; each has 32 bits.

use crate::elf::VirtAddr;

/// How long an instruction is, in bytes.
pub(crate) const LENGTH: u64 = 4;

/// A general-purpose register, by its number: 0 to 30; 31 is the stack pointer or the zero
/// register.
pub(crate) type Register = u8;

/// The link register: where a call leaves its return address.
pub(crate) const LINK: Register = 30;
/// The stack pointer where an instruction can name it, else the register that is always zero.
pub(crate) const STACK: Register = 31;

/// What an instruction does, as far as it is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `adr`: the register takes an address.
    Address(Register, VirtAddr),
    /// `adrp`: the register takes the address of a page.
    Page(Register, VirtAddr),
    /// `movz`: the register takes a number.
    Number(Register, u64),
    /// `movk`: 16 bits of the register take those of a number; the bits, the number in its place.
    Part(Register, u64, u64),
    /// `add` and `sub` of a number, `mov` of a register: the first takes the second and a number.
    Add(Register, Register, i64),
    /// `add` of two registers, the second perhaps shifted.
    Sum(Register, Register, Register),
    /// A whole register takes what lies so many bytes behind the address in another one.
    Load(Register, Register, i64),
    /// The same of a narrower value: the register, the other one, the distance, bytes.
    LoadPart(Register, Register, i64, u8),
    /// A narrow value that lies behind the address in a register by what another one holds: the
    /// register that takes it, the two, bytes.
    LoadEntry(Register, Register, Register, u8),
    /// The same, written: the two, bytes.
    StoreEntry(Register, Register, u8),
    /// A register is written to memory, so many bytes behind the address in another one; bytes.
    Store(Register, i64, u8),
    /// `stp x29, x30` and `str x30` below the stack pointer, which they move down so many bytes.
    Push(u32),
    /// `mrs` of `TPIDR_EL0`: the register takes the thread pointer.
    ThreadPointer(Register),
    /// `b`.
    Jump(VirtAddr),
    /// `b.cond`, `cbz`, `cbnz`, `tbz`, `tbnz`, and where they jump to.
    Branch(VirtAddr),
    /// `br` and its authenticated forms.
    JumpThrough(Register),
    /// `bl`.
    Call(VirtAddr),
    /// `blr` and its authenticated forms.
    CallThrough(Register),
    /// `ret` and its authenticated forms.
    Return,
    /// `brk`, `hlt`, `udf` and what is no instruction.
    Trap,
    /// Anything else. It goes on to the next instruction.
    Other,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// What it does.
    pub(crate) kind: Kind,
    /// A bit for each general-purpose register that it may write; bit 31 is the stack pointer.
    pub(crate) writes: u32,
    /// Its bits.
    pub(crate) word: u32,
}

impl Instruction {
    /// The instruction with these bits at an address.
    pub(crate) fn decode(word: u32, at: VirtAddr) -> Self {
        let kind = kind(word, at);
        Self {
            kind,
            writes: writes(word, kind),
            word,
        }
    }

    /// Whether it may write a register.
    pub(crate) fn may_write(&self, register: Register) -> bool {
        self.writes >> register & 1 == 1
    }
}

/// The instructions in `code`, which begins at `start`.
pub(crate) fn instructions(
    code: &[u8],
    start: VirtAddr,
) -> impl Iterator<Item = (VirtAddr, Instruction)> {
    code.chunks_exact(LENGTH as usize)
        .enumerate()
        .map(move |(index, bytes)| {
            let word = bytes
                .first_chunk()
                .map_or(0, |bytes| u32::from_le_bytes(*bytes));
            let at = VirtAddr(start.0.wrapping_add(LENGTH * index as u64));
            (at, Instruction::decode(word, at))
        })
}

/// Bits `from` to `from + count - 1`.
fn bits(word: u32, from: u32, count: u32) -> u32 {
    word >> from & ((1 << count) - 1)
}

/// The same as a number with a sign.
fn signed(word: u32, from: u32, count: u32) -> i64 {
    let shifted = bits(word, from, count) << (32 - count);
    (shifted.cast_signed() >> (32 - count)).into()
}

fn register(word: u32, from: u32) -> Register {
    bits(word, from, 5) as u8
}

fn kind(word: u32, at: VirtAddr) -> Kind {
    // The main groups, C4.1.
    match bits(word, 25, 4) {
        0b0000 => Kind::Trap,
        0b1000 | 0b1001 => immediate(word, at),
        0b1010 | 0b1011 => branch_or_system(word, at),
        0b0100 | 0b0110 | 0b1100 | 0b1110 => memory(word),
        0b0101 | 0b1101 => registers(word),
        _ => Kind::Other,
    }
}

/// Data processing with a number, C4.1.93.
fn immediate(word: u32, at: VirtAddr) -> Kind {
    let (to, from) = (register(word, 0), register(word, 5));
    match bits(word, 23, 3) {
        // PC-relative addressing: 19 bits and two below them.
        0b000 | 0b001 => {
            let distance = signed(word, 5, 19) << 2 | i64::from(bits(word, 29, 2));
            let page = (at.0 & !0xfff).wrapping_add_signed(distance << 12);
            match word >> 31 {
                0 => Kind::Address(to, VirtAddr(at.0.wrapping_add_signed(distance))),
                _ => Kind::Page(to, VirtAddr(page)),
            }
        }
        // add, sub of 64 bits that set no flags.
        0b010 if matches!(word >> 29, 0b100 | 0b110) => {
            let number = i64::from(bits(word, 10, 12)) << (12 * bits(word, 22, 1));
            let is_sub = bits(word, 30, 1) == 1;
            Kind::Add(to, from, if is_sub { -number } else { number })
        }
        // movz, movk; bit 31 says whether the register has 64 bits.
        0b101 => {
            let shift = 16 * bits(word, 21, 2);
            let number = u64::from(bits(word, 5, 16)) << shift;
            match bits(word, 29, 2) {
                0b10 => Kind::Number(to, number),
                0b11 => Kind::Part(to, 0xffff << shift, number),
                _ => Kind::Other,
            }
        }
        _ => Kind::Other,
    }
}

/// Branches, exceptions and system instructions, C4.1.94.
fn branch_or_system(word: u32, at: VirtAddr) -> Kind {
    let to = |distance: i64| VirtAddr(at.0.wrapping_add_signed(distance << 2));
    match word >> 26 {
        0b00_0101 => return Kind::Jump(to(signed(word, 0, 26))),
        0b10_0101 => return Kind::Call(to(signed(word, 0, 26))),
        _ => {}
    }
    match word >> 24 {
        // b.cond, cbz and cbnz of 32 and of 64 bits.
        0b0101_0100 | 0b0011_0100 | 0b0011_0101 | 0b1011_0100 | 0b1011_0101 => {
            Kind::Branch(to(signed(word, 5, 19)))
        }
        // tbz and tbnz of the lower and of the upper bits.
        0b0011_0110 | 0b0011_0111 | 0b1011_0110 | 0b1011_0111 => {
            Kind::Branch(to(signed(word, 5, 14)))
        }
        // svc, hvc and smc end in 1 to 3; brk and hlt have no such bits.
        0b1101_0100 if bits(word, 0, 2) == 0 => Kind::Trap,
        0b1101_0110 | 0b1101_0111 => match bits(word, 21, 2) {
            0b00 => Kind::JumpThrough(register(word, 5)),
            0b01 => Kind::CallThrough(register(word, 5)),
            _ => Kind::Return,
        },
        // mrs: op0, op1, CRn, CRm and op2 name TPIDR_EL0, S3_3_C13_C0_2.
        0b1101_0101 if word >> 5 == 0xd53b_d040 >> 5 => Kind::ThreadPointer(register(word, 0)),
        _ => Kind::Other,
    }
}

/// Loads and stores, C4.1.96. Those of vector registers are `Other`.
fn memory(word: u32) -> Kind {
    let (target, base) = (register(word, 0), register(word, 5));
    let is_vector = bits(word, 26, 1) == 1;
    let is_below_stack = base == STACK && target != STACK;
    // stp x29, x30, [sp, #-N]!; str x30, [sp, #-N]!.
    if word & 0xffc0_7fff == 0xa980_7bfd {
        return Kind::Push((-8 * signed(word, 15, 7)).try_into().unwrap_or(0));
    }
    if word & 0xffe0_0c00 == 0xf800_0c00 && is_below_stack && target == LINK {
        return Kind::Push((-signed(word, 12, 9)).try_into().unwrap_or(0));
    }
    if bits(word, 27, 3) != 0b111 || is_vector {
        return Kind::Other;
    }
    let size = 1u8 << bits(word, 30, 2);
    let offset = match (bits(word, 24, 2), bits(word, 21, 1), bits(word, 10, 2)) {
        // An unsigned offset in units of the size; an unscaled one.
        (0b01, ..) => i64::from(bits(word, 10, 12)) * i64::from(size),
        (0b00, 0, 0b00) => signed(word, 12, 9),
        // A register's offset.
        (0b00, 1, 0b10) => {
            let index = register(word, 16);
            return match (bits(word, 22, 2), size) {
                (_, 8) => Kind::Other,
                (0b00, _) => Kind::StoreEntry(base, index, size),
                _ => Kind::LoadEntry(target, base, index, size),
            };
        }
        _ => return Kind::Other,
    };
    match (bits(word, 22, 2), size) {
        (0b00, _) => Kind::Store(base, offset, size),
        (0b01, 8) => Kind::Load(target, base, offset),
        // prfm.
        (0b10, 8) => Kind::Other,
        _ => Kind::LoadPart(target, base, offset, size),
    }
}

/// Data processing of registers, C4.1.95.
fn registers(word: u32) -> Kind {
    let (to, first, second) = (register(word, 0), register(word, 5), register(word, 16));
    // orr Xd, xzr, Xm.
    if word & 0xffe0_ffe0 == 0xaa00_03e0 {
        return match (to, second) {
            (STACK, _) | (_, STACK) => Kind::Other,
            _ => Kind::Add(to, second, 0),
        };
    }
    // add of 64 bits: a shifted register, an extended one.
    let is_sum = word & 0xff20_0000 == 0x8b00_0000 || word & 0xffe0_0000 == 0x8b20_0000;
    match is_sum {
        true => Kind::Sum(to, first, second),
        false => Kind::Other,
    }
}

/// The registers that an instruction may write. In doubt it writes them.
fn writes(word: u32, kind: Kind) -> u32 {
    let bit = |register: Register| 1u32 << register;
    // A number 31 is no register but where the stack pointer can be written.
    let plain = |register: Register| bit(register) & !bit(STACK);
    let target = register(word, 0);
    match kind {
        Kind::Add(to, ..) if bits(word, 23, 3) == 0b010 => bit(to),
        Kind::Push(_) => bit(STACK),
        Kind::Call(_) | Kind::CallThrough(_) => bit(LINK),
        Kind::Store(..)
        | Kind::StoreEntry(..)
        | Kind::Jump(_)
        | Kind::Branch(_)
        | Kind::JumpThrough(_) => 0,
        Kind::Return | Kind::Trap => 0,
        Kind::Other => match bits(word, 25, 4) {
            0b0100 | 0b0110 | 0b1100 | 0b1110 => memory_writes(word),
            // System instructions that have a result: mrs, sysl.
            0b1010 | 0b1011 => match bits(word, 21, 1) == 1 && word >> 24 == 0b1101_0101 {
                true => plain(target),
                false => 0,
            },
            // Of a number: add, sub with and without tags, and, orr, eor can write the stack
            // pointer, those that set flags cannot.
            0b1000 | 0b1001 => match bits(word, 23, 3) {
                0b010 | 0b011 if bits(word, 29, 1) == 0 => bit(target),
                0b100 if bits(word, 29, 2) != 0b11 => bit(target),
                _ => plain(target),
            },
            // Conditional comparisons write flags alone.
            0b0101 | 0b1101 if word & 0x1fe0_0000 == 0x1a40_0000 => 0,
            // add and sub of an extended register.
            0b0101 | 0b1101 if word & 0x3fe0_0000 == 0x0b20_0000 => bit(target),
            // Vectors: what moves into a general register and what only might.
            0b0111 | 0b1111 => match is_to_general(word) {
                true => plain(target),
                false => 0,
            },
            // Scalable vectors, and what is not known here.
            0b0001..=0b0011 => bit(target),
            _ => plain(target),
        },
        _ => plain(target),
    }
}

/// Conversions and moves from a floating-point register (C4.1.97.36), and `umov` and `smov`
/// (C4.1.97.5).
fn is_to_general(word: u32) -> bool {
    let is_conversion = word & 0x7f20_fc00 == 0x1e20_0000 || word & 0x7f20_0000 == 0x1e00_0000;
    let is_lane = word & 0xbfe0_8400 == 0x0e00_0400 && matches!(bits(word, 11, 4), 0b0101 | 0b0111);
    is_conversion || is_lane
}

fn memory_writes(word: u32) -> u32 {
    let bit = |from: u32| 1u32 << register(word, from);
    let zero = 1u32 << STACK;
    let (target, base, other) = (bit(0) & !zero, bit(5), bit(10) & !zero);
    let is_vector = bits(word, 26, 1) == 1;
    let is_load = bits(word, 22, 1) == 1;
    match bits(word, 27, 3) {
        // Exclusive and ordered ones, tags; the status of an exclusive store, and a comparison's.
        0b001 if !is_vector => {
            let status = bit(16) & !zero;
            target | other | status | (status << 1) & !zero
        }
        // Structures of vectors, which may move the base on.
        0b001 => base,
        // Words near the instruction.
        0b011 if bits(word, 24, 2) == 0 => match is_vector || word >> 30 == 0b11 {
            true => 0,
            false => target,
        },
        // Ordered ones with an offset, copies of memory.
        0b011 => target | base | (bit(16) & !zero),
        // Pairs; bit 23 says that the base is moved.
        0b101 => {
            let loaded = if is_load && !is_vector {
                target | other
            } else {
                0
            };
            let moved = if bits(word, 23, 1) == 1 { base } else { 0 };
            loaded | moved
        }
        _ => single_writes(word, target, base, is_vector),
    }
}

/// One register: with an offset, before or after which the base may be moved, or atomic.
fn single_writes(word: u32, target: u32, base: u32, is_vector: bool) -> u32 {
    let is_offset = bits(word, 24, 1) == 1;
    let mode = (bits(word, 21, 1), bits(word, 10, 2));
    let moved = match (is_offset, mode) {
        (false, (0, 0b01 | 0b11)) => base,
        // Loads with authentication may move it as well.
        (false, (1, 0b01 | 0b11)) => base,
        _ => 0,
    };
    // The others with bit 21 are atomic, or authenticated loads.
    let may_store = is_offset || mode.0 == 0 || mode.1 == 0b10;
    let is_store = may_store && bits(word, 22, 2) == 0;
    if is_vector || is_store {
        moved
    } else {
        target | moved
    }
}

#[cfg(test)]
mod tests;
