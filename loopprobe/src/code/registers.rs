//! What the 16 general-purpose registers are known to hold at one point of a walk.

use iced_x86::Register;

use crate::elf::VirtAddr;

/// What general-purpose registers are known to hold: addresses of the image, or of the thread's own
/// variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    values: [Option<VirtAddr>; 16],
    /// A bit for each register that points to thread-local memory.
    thread_local: u16,
}

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

impl Registers {
    /// What `register` or the register that it is a part of holds.
    pub(super) fn get(&self, register: Register) -> Option<VirtAddr> {
        self.values[index(register)?]
    }

    /// Notes that the register now holds `value`.
    pub(super) fn set(&mut self, register: Register, value: Option<VirtAddr>) {
        if let Some(index) = index(register) {
            self.values[index] = value;
            self.thread_local &= !(1 << index);
        }
    }

    /// Whether the register points to thread-local memory.
    pub(super) fn is_thread_local(&self, register: Register) -> bool {
        index(register).is_some_and(|index| self.thread_local >> index & 1 == 1)
    }

    /// Notes that the register now points to thread-local memory.
    pub(super) fn set_thread_local(&mut self, register: Register) {
        self.set(register, None);
        if let Some(index) = index(register) {
            self.thread_local |= 1 << index;
        }
    }

    /// Forgets what a call may have changed.
    pub(super) fn after_call(&mut self) {
        for register in CALLER_SAVED {
            self.set(register, None);
        }
    }
}

/// The number that instructions have for the general-purpose register that this one is, or is a
/// part of.
pub(super) fn index(register: Register) -> Option<usize> {
    let full = register.full_register();
    (full.is_gpr64()).then(|| full.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_keeps_the_callee_saved_registers() {
        let mut registers = Registers::default();
        registers.set(Register::RBX, Some(VirtAddr(1)));
        registers.set(Register::EDI, Some(VirtAddr(2)));
        assert_eq!(registers.get(Register::RDI), Some(VirtAddr(2)));
        registers.after_call();
        assert_eq!(
            (registers.get(Register::RBX), registers.get(Register::RDI)),
            (Some(VirtAddr(1)), None)
        );
    }

    #[test]
    fn thread_local_addresses_are_kept_and_lost_like_others() {
        let mut registers = Registers::default();
        registers.set_thread_local(Register::RAX);
        registers.set_thread_local(Register::R14);
        assert!(registers.is_thread_local(Register::EAX));
        registers.after_call();
        assert!(!registers.is_thread_local(Register::RAX));
        assert!(registers.is_thread_local(Register::R14));
        registers.set(Register::R14D, Some(VirtAddr(1)));
        assert!(!registers.is_thread_local(Register::R14));
        assert!(!registers.is_thread_local(Register::None));
    }

    #[test]
    fn other_registers_hold_nothing() {
        let mut registers = Registers::default();
        registers.set(Register::XMM0, Some(VirtAddr(1)));
        assert_eq!(registers, Registers::default());
        assert_eq!(registers.get(Register::RIP), None);
    }
}
