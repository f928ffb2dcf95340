use iced_x86::Register;

use crate::elf::VirtAddr;

/// Addresses that general-purpose registers are known to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    values: [Option<VirtAddr>; 16],
}

/// Registers that a function may change. Source: System V ABI for x86-64, section 3.2.1.
const CALLER_SAVED: [Register; 9] = [
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
    pub fn get(&self, register: Register) -> Option<VirtAddr> {
        self.values[index(register)?]
    }

    /// Notes that the register now holds `value`.
    pub fn set(&mut self, register: Register, value: Option<VirtAddr>) {
        if let Some(index) = index(register) {
            self.values[index] = value;
        }
    }

    /// Forgets what a call may have changed.
    pub fn after_call(&mut self) {
        for register in CALLER_SAVED {
            self.set(register, None);
        }
    }
}

fn index(register: Register) -> Option<usize> {
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
    fn other_registers_hold_nothing() {
        let mut registers = Registers::default();
        registers.set(Register::XMM0, Some(VirtAddr(1)));
        assert_eq!(registers, Registers::default());
        assert_eq!(registers.get(Register::RIP), None);
    }
}
