//! A thread's registers and a copy of its stack, which is never written or shown.

use std::fmt;

use loopprobe_common::records;

use super::host;
use crate::elf::ProcAddr;

/// The user registers of a thread.
///
/// Unwinding reads `ip`, `sp`, `bp` and `link`; a registers' source that has no more leaves the
/// others zero. The callee-saved ones may hold the task header of an open poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer: `rbp`, `x29`.
    pub bp: u64,
    /// Where a call on aarch64 leaves its return address: `x30`.
    pub link: u64,
    /// The others that a called function must restore: `rbx`, `r12` to `r15`; `x19` to `x28`.
    pub saved: [u64; Registers::SAVED],
}

impl Registers {
    /// As many as the processor with the most has.
    pub const SAVED: usize = 10;

    /// Those that the kernel side has sent.
    pub(crate) fn of_record(regs: &records::Registers) -> Self {
        host::registers(regs)
    }

    /// What the registers hold that a called function must restore, the frame pointer included.
    pub(crate) fn callee_saved(&self) -> impl Iterator<Item = u64> {
        std::iter::once(self.bp)
            .chain(self.saved)
            .filter(|value| *value != 0)
    }
}

/// A thread's stack as it was taken: what unwinding starts from.
///
/// The bytes can hold secrets of the target. Unwinding takes the value and drops it; they are never
/// written, and not shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RawStack {
    /// The user registers at the time.
    pub regs: Registers,
    /// A copy of the stack from `regs.sp` upwards.
    pub bytes: Vec<u8>,
    /// A copy of its outermost part, up to the return address at `entry_sp`, where `bytes` do not
    /// reach that far.
    pub outermost: Vec<u8>,
    /// The stack pointer at the first instruction of the poll function. On x86-64 its return
    /// address was at `[entry_sp]`, and its CFA is `entry_sp + 8`; on aarch64 its CFA is
    /// `entry_sp`. `None` where the poll's beginning was not seen.
    pub entry_sp: Option<ProcAddr>,
}

impl RawStack {
    /// The word at a stack address, where the copy holds it.
    pub(crate) fn word(&self, address: u64) -> Option<u64> {
        word(&self.bytes, self.regs.sp, address).or_else(|| {
            let end = self.entry_sp?.0.checked_add(8)?;
            let start = end.checked_sub(self.outermost.len() as u64)?;
            word(&self.outermost, start, address)
        })
    }
}

/// The word at `address` in bytes that begin at `start`.
fn word(bytes: &[u8], start: u64, address: u64) -> Option<u64> {
    let at = usize::try_from(address.checked_sub(start)?).ok()?;
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

impl fmt::Debug for RawStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawStack")
            .field("regs", &self.regs)
            .field("bytes", &format_args!("[{} bytes]", self.bytes.len()))
            .field("entry_sp", &self.entry_sp)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack() -> RawStack {
        RawStack {
            regs: Registers {
                sp: 0x1000,
                ..Registers::default()
            },
            bytes: (0..20).collect(),
            outermost: Vec::new(),
            entry_sp: None,
        }
    }

    #[test]
    fn a_word_is_read_only_where_all_of_it_was_copied() {
        assert_eq!(stack().word(0x1000), Some(0x0706_0504_0302_0100));
        assert_eq!(stack().word(0x100c), Some(0x1312_1110_0f0e_0d0c));
        assert_eq!(stack().word(0x100d), None);
        assert_eq!(stack().word(0xfff), None);
        assert_eq!(stack().word(u64::MAX), None);
    }

    #[test]
    fn the_outermost_part_ends_with_the_return_address_at_the_entry() {
        let stack = RawStack {
            outermost: (100..116).collect(),
            entry_sp: Some(ProcAddr(0x2000)),
            ..stack()
        };
        assert_eq!(stack.word(0x2000), Some(0x7372_7170_6f6e_6d6c));
        assert_eq!(stack.word(0x1ff8), Some(0x6b6a_6968_6766_6564));
        assert_eq!(stack.word(0x1ff0), None);
        assert_eq!(stack.word(0x2001), None);
        assert_eq!(stack.word(0x1000), Some(0x0706_0504_0302_0100));
    }

    #[test]
    fn debug_output_does_not_show_the_bytes() {
        let shown = format!("{:?}", stack());
        assert!(shown.contains("[20 bytes]"), "{shown}");
        assert!(!shown.contains("19"), "{shown}");
    }
}
