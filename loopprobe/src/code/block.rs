//! Straight-line code as the few operations that walks follow, and its end: the same for every
//! processor. Decoders make them.

use super::registers::{Gpr, Registers};
use crate::elf::{Image, VirtAddr};

/// Straight-line code is cut here; the walk goes on with the next block.
pub(super) const MAX_BYTES: usize = 2048;
/// A jump table with more entries is read no further. Async functions have one entry an await
/// point.
const MAX_TABLE: u64 = 1024;

/// A place in memory, as an instruction names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The register that the place is told from.
    pub(super) base: Gpr,
    /// Bytes from where that register points to.
    pub(super) displacement: u64,
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
}

/// What one instruction does, as far as a walk wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// The register takes this address of the image.
    Address(Gpr, VirtAddr),
    /// The register takes the address of a page of the image; what is meant lies in it.
    Page(Gpr, VirtAddr),
    /// The first register takes the second's value.
    Copy(Gpr, Gpr),
    /// The first register takes the second's value and a number.
    Add(Gpr, Gpr, i64),
    /// The register takes an address in thread-local memory.
    ThreadLocal(Gpr),
    /// The first register takes the sum of the others (or one of them) and a number.
    Sum(Gpr, Gpr, Gpr),
    /// The register takes a value that is not followed.
    Clobber(Gpr),
    /// A byte in memory is compared or loaded into the register, as a state machine does with its
    /// state; and where.
    TestByte(Gpr, Place),
    /// So many bytes are written from there on, as a state machine does with its state; the
    /// compiler may write its neighbours with it.
    Store(Place, u8),
    /// A call, to where, if that is known, and a bit for each register that it may change.
    Call(Option<VirtAddr>, u32),
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
    RelativeTable(Gpr),
    /// A jump through a table of addresses.
    AbsoluteTable(VirtAddr),
    /// A jump through a table, whose address is in the register, of distances in instructions.
    ShortTable {
        /// The register.
        table: Gpr,
        /// From where on.
        base: VirtAddr,
        /// Bytes of an entry: 1 or 2.
        size: u8,
    },
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

impl Op {
    /// Applies the operation to what is known of the registers.
    pub(super) fn apply(&self, registers: &mut Registers) {
        match *self {
            Self::Address(register, address) | Self::Page(register, address) => {
                registers.set(register, Some(address));
            }
            Self::Copy(to, from) if registers.is_thread_local(from) => {
                registers.set_thread_local(to);
            }
            Self::Copy(to, from) => registers.set(to, registers.get(from)),
            Self::Add(to, from, _) if registers.is_thread_local(from) => {
                registers.set_thread_local(to);
            }
            Self::Add(to, from, number) => {
                let sum = |address: VirtAddr| VirtAddr(address.0.wrapping_add_signed(number));
                registers.set(to, registers.get(from).map(sum));
            }
            Self::ThreadLocal(register) => registers.set_thread_local(register),
            Self::Sum(to, a, b) if registers.is_thread_local(a) || registers.is_thread_local(b) => {
                registers.set_thread_local(to);
            }
            Self::Sum(to, ..) => registers.set(to, None),
            Self::Clobber(register) | Self::TestByte(register, _) => registers.set(register, None),
            Self::Store(..) => {}
            Self::Call(_, changed) => registers.forget(changed),
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

/// The entries of a table of distances in instructions of 32 bits, `size` bytes each.
pub(super) fn short_table(
    image: &Image,
    table: VirtAddr,
    (base, size): (VirtAddr, u8),
    limit: VirtAddr,
) -> Vec<VirtAddr> {
    let size = usize::from(size.clamp(1, 2));
    let entry = |index: u64| {
        let at = VirtAddr(table.0.checked_add(size as u64 * index)?);
        let bytes = image.bytes_at(at, size)?;
        let distance = bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Some(VirtAddr(base.0.checked_add(4 * distance)?))
    };
    entries(image, limit.0.saturating_sub(table.0) / size as u64, entry)
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
