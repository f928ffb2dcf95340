//! Addresses that registers hold, told by the instructions before, in the order in which they lie.
//!
//! An address takes two instructions, `adrp` and `add` or `ldr`, with others in between, and one
//! `adrp` may serve several.

use super::instruction::{Instruction, Kind, LINK, Register};
use crate::elf::{Image, VirtAddr};

/// Registers that a function may change, a bit each: `x0` to `x18` and the link register. Source:
/// "Procedure Call Standard for the Arm 64-bit Architecture" (2024Q3), section 6.1.1.
pub(super) const CALLER_SAVED_BITS: u32 = ((1 << 19) - 1) | (1 << LINK);

/// What the registers hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Constants {
    values: [u64; 32],
    /// A bit for each register whose value is known.
    known: u32,
    /// The same of those that hold a number and no address.
    numbers: u32,
}

impl Constants {
    /// The address that a register holds.
    pub(super) fn address(&self, register: Register) -> Option<VirtAddr> {
        let is_known = (self.known & !self.numbers) >> register & 1 == 1;
        is_known.then(|| VirtAddr(self.values[usize::from(register)]))
    }

    /// The number that a register holds.
    pub(super) fn number(&self, register: Register) -> Option<u64> {
        let is_known = (self.known & self.numbers) >> register & 1 == 1;
        is_known.then(|| self.values[usize::from(register)])
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.known = 0;
    }

    fn set(&mut self, register: Register, value: u64, is_number: bool) {
        self.values[usize::from(register)] = value;
        self.known |= 1 << register;
        self.numbers = self.numbers & !(1 << register) | u32::from(is_number) << register;
    }

    /// Applies an instruction. Returns the address that it has put together, if it has.
    pub(super) fn apply(&mut self, image: &Image, instruction: &Instruction) -> Option<VirtAddr> {
        let made = self.made(image, instruction);
        let number = match instruction.kind {
            Kind::Number(to, number) => Some((to, number)),
            Kind::Part(to, mask, number) => {
                self.number(to).map(|before| (to, before & !mask | number))
            }
            _ => None,
        };
        self.known &= !instruction.writes;
        if matches!(instruction.kind, Kind::Call(_) | Kind::CallThrough(_)) {
            self.known &= !CALLER_SAVED_BITS;
        }
        // Number 31 is the stack pointer or nothing.
        if let Some((to, number)) = number.filter(|(to, _)| *to < 31) {
            self.set(to, number, true);
        }
        let (to, address, is_whole) = made.filter(|(to, ..)| *to < 31)?;
        self.set(to, address.0, false);
        is_whole.then_some(address)
    }

    /// The address that an instruction makes, its register, and whether it is more than a page or a
    /// copy: `add xN, xN, #0` completes one.
    fn made(&self, image: &Image, instruction: &Instruction) -> Option<(Register, VirtAddr, bool)> {
        match instruction.kind {
            Kind::Address(to, address) => Some((to, address, true)),
            Kind::Page(to, page) => Some((to, page, false)),
            Kind::Add(to, from, number) => {
                let address = self.address(from)?.0.wrapping_add_signed(number);
                Some((to, VirtAddr(address), number != 0 || to == from))
            }
            // A word that the loader fills in.
            Kind::Load(to, from, offset) => {
                let word = self.address(from)?.0.wrapping_add_signed(offset);
                Some((to, image.pointer_at(VirtAddr(word))?, true))
            }
            _ => None,
        }
    }
}
