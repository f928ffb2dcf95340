//! Registers of x86-64 by their numbers, and which of them a call keeps.

use iced_x86::Register;

use crate::code::registers::Gpr;

/// Registers that a function may change. Source: System V ABI for x86-64, section 3.2.1.
pub(super) const CALLER_SAVED: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];
/// The same, a bit each.
pub(super) const CALLER_SAVED_BITS: u32 = 0b1111_1100_0111;

/// Where the first and the third argument are: `rdi`, `rdx`. Source: the same, section 3.2.3.
pub(in crate::code) const FIRST_AND_THIRD: [Gpr; 2] = [Gpr::new(7), Gpr::new(2)];

/// The number that instructions have for the general-purpose register that this one is, or is a
/// part of.
pub(super) fn index(register: Register) -> Option<usize> {
    let full = register.full_register();
    (full.is_gpr64()).then(|| full.number())
}

/// The same for walks.
pub(super) fn gpr(register: Register) -> Gpr {
    index(register).map_or(Gpr::NONE, |index| Gpr::new(index as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_register_is_that_register() {
        assert_eq!(gpr(Register::EDI), gpr(Register::RDI));
        assert_eq!(gpr(Register::R14D), Gpr::new(14));
        assert_eq!(FIRST_AND_THIRD, [Register::RDI, Register::RDX].map(gpr));
        let others = [Register::XMM0, Register::RIP, Register::None];
        assert_eq!(others.map(gpr), [Gpr::NONE; 3]);
    }

    #[test]
    fn the_bits_are_those_of_the_registers() {
        let bits: u32 = CALLER_SAVED.iter().map(|one| 1 << one.number()).sum();
        assert_eq!(CALLER_SAVED_BITS, bits);
    }
}
