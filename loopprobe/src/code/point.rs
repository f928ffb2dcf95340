//! Places in code where a probe may stand.

use serde::{Deserialize, Serialize};

use crate::elf::VirtAddr;

/// The instruction at a probe's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryInstruction {
    /// Its mnemonic: `push`, `jmp`.
    pub mnemonic: String,
    /// Whether the kernel emulates it. If not, each hit costs a single step (about 16 us on a
    /// virtual machine). Source: `arch_uprobe_analyze_insn` in `arch/x86/kernel/uprobes.c` and
    /// `arch/arm64/kernel/probes/uprobes.c` (Linux 6.18).
    pub emulated: bool,
    /// Where it leads.
    #[serde(skip)]
    pub leads: Leads,
}

/// Where a thread is behind an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leads {
    /// The next instruction, in bytes from this one; two of a conditional jump, else both are the
    /// same.
    pub next: [i64; 2],
    /// How far it lowers the stack pointer, in bytes.
    pub pushed: u32,
}

/// Where a function is probed, and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePoint {
    /// The address of the instruction.
    pub address: VirtAddr,
    /// The instruction.
    pub instruction: EntryInstruction,
}
