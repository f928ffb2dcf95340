//! What the general-purpose registers are known to hold at one point of a walk.

use crate::elf::VirtAddr;

/// More than any processor has that is known here.
const COUNT: usize = 32;

/// A general-purpose register, by the number that instructions have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gpr(u8);

impl Gpr {
    /// Anything else.
    pub(super) const NONE: Self = Self(u8::MAX);

    /// The one with this number.
    pub(super) const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its number; `None` if it is no general-purpose register.
    pub(super) fn index(self) -> Option<usize> {
        let index = usize::from(self.0);
        (index < COUNT).then_some(index)
    }
}

/// What general-purpose registers are known to hold: addresses of the image, or of the thread's own
/// variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    /// 0 where nothing is known.
    values: [VirtAddr; COUNT],
    /// A bit for each register whose value is known.
    known: u32,
    /// A bit for each register that points to thread-local memory.
    thread_local: u32,
}

impl Registers {
    /// What `register` holds.
    pub(super) fn get(&self, register: Gpr) -> Option<VirtAddr> {
        let index = register.index()?;
        (self.known >> index & 1 == 1).then(|| self.values[index])
    }

    /// Notes that the register now holds `value`.
    pub(super) fn set(&mut self, register: Gpr, value: Option<VirtAddr>) {
        if let Some(index) = register.index() {
            self.values[index] = value.unwrap_or_default();
            self.known = self.known & !(1 << index) | u32::from(value.is_some()) << index;
            self.thread_local &= !(1 << index);
        }
    }

    /// Whether the register points to thread-local memory.
    pub(super) fn is_thread_local(&self, register: Gpr) -> bool {
        register
            .index()
            .is_some_and(|index| self.thread_local >> index & 1 == 1)
    }

    /// Notes that the register now points to thread-local memory.
    pub(super) fn set_thread_local(&mut self, register: Gpr) {
        self.set(register, None);
        if let Some(index) = register.index() {
            self.thread_local |= 1 << index;
        }
    }

    /// Forgets the registers with these bits: what a call may have changed.
    pub(super) fn forget(&mut self, changed: u32) {
        let mut left = changed;
        while left != 0 {
            self.set(Gpr::new(left.trailing_zeros() as u8), None);
            left &= left - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Gpr = Gpr::new(1);
    const OTHER: Gpr = Gpr::new(14);

    #[test]
    fn a_call_keeps_what_it_does_not_change() {
        let mut registers = Registers::default();
        registers.set(ONE, Some(VirtAddr(1)));
        registers.set(OTHER, Some(VirtAddr(2)));
        registers.forget(0b11);
        assert_eq!(
            (registers.get(ONE), registers.get(OTHER)),
            (None, Some(VirtAddr(2)))
        );
    }

    #[test]
    fn thread_local_addresses_are_kept_and_lost_like_others() {
        let mut registers = Registers::default();
        registers.set_thread_local(ONE);
        registers.set_thread_local(OTHER);
        assert!(registers.is_thread_local(ONE));
        registers.forget(0b11);
        assert!(!registers.is_thread_local(ONE));
        assert!(registers.is_thread_local(OTHER));
        registers.set(OTHER, Some(VirtAddr(1)));
        assert!(!registers.is_thread_local(OTHER));
        assert!(!registers.is_thread_local(Gpr::NONE));
    }

    #[test]
    fn other_registers_hold_nothing() {
        let mut registers = Registers::default();
        registers.set(Gpr::NONE, Some(VirtAddr(1)));
        assert_eq!(registers, Registers::default());
        assert_eq!(registers.get(Gpr::NONE), None);
    }
}
