//! Which decoder answers for an image: the only place of this room that knows that there are two.
//!
//! Where there is no answer for a processor yet, the answer is that nothing is known.

use std::{collections::HashSet, ops::Range};

use super::{
    Blocks, ResumedPanics, aarch64,
    block::Block,
    point::ProbePoint,
    registers::Gpr,
    walk::Tested,
    x86_64::{
        self,
        argument::ArgumentPoint,
        awaits::Machine,
        thread_words::{self, Store},
    },
};
use crate::elf::{Architecture, Image, ProcAddr, VirtAddr};

/// Decodes the block at `start`. It ends with its function at the latest: a call that never returns
/// may be the last instruction there.
pub(super) fn block(image: &Image, start: VirtAddr) -> Block {
    match image.architecture() {
        Architecture::X86_64 => x86_64::block::decode(image, start),
        Architecture::Aarch64 => aarch64::block::decode(image, start),
    }
}

/// The registers that hold a function's first and third argument.
pub(super) fn first_and_third_argument(image: &Image) -> [Gpr; 2] {
    match image.architecture() {
        Architecture::X86_64 => x86_64::registers::FIRST_AND_THIRD,
        Architecture::Aarch64 => aarch64::block::FIRST_AND_THIRD,
    }
}

/// Chooses where to probe the function at `entry`, whose first argument is wanted.
///
/// If the kernel does not emulate the first instruction, the first emulated one is taken that every
/// call passes exactly once with the argument, the return address and the stack pointer still where
/// they were at the entry, so entry and return probes work as there. Without one it stays at the
/// entry. `None` means that no instruction is there, or none that the kernel would probe.
pub fn probe_point(image: &Image, entry: VirtAddr) -> Option<ProbePoint> {
    match image.architecture() {
        Architecture::X86_64 => x86_64::entry::probe_point(image, entry),
        Architecture::Aarch64 => aarch64::entry::probe_point(image, entry),
    }
}

/// Whether a probe there costs little enough for a function that a loop calls at each turn: where
/// the kernel emulates the instruction. On aarch64 hardly any function begins with such a one, and
/// a step over another has to do.
pub fn is_cheap(image: &Image, point: &ProbePoint) -> bool {
    match image.architecture() {
        Architecture::X86_64 => point.instruction.emulated,
        Architecture::Aarch64 => true,
    }
}

/// Follows the first argument of `function` through the functions that it hands its work to, to an
/// instruction that every call comes to once and that is cheap to probe.
pub fn argument_point(image: &Image, function: VirtAddr) -> Option<ArgumentPoint> {
    match image.architecture() {
        Architecture::X86_64 => x86_64::argument::argument_point(image, function),
        Architecture::Aarch64 => None,
    }
}

/// The function that a call leads to. `inside` is the last byte of the call instruction, as stacks
/// have it of a caller.
///
/// `None` for a call through a register, and for one that leads out of the file.
pub fn callee(image: &Image, inside: VirtAddr) -> Option<VirtAddr> {
    match image.architecture() {
        Architecture::X86_64 => x86_64::call::callee(image, inside),
        Architecture::Aarch64 => aarch64::call::callee(image, inside),
    }
}

/// The function through which all Rust code of a file gives memory back, and those of the allocator
/// to which it jumps. None where it was inlined into its callers or is not found.
pub fn deallocators(image: &Image) -> Vec<VirtAddr> {
    match image.architecture() {
        Architecture::X86_64 => x86_64::deallocator::deallocators(image),
        Architecture::Aarch64 => Vec::new(),
    }
}

/// Whether the code of `function` calls a function of another file by this name, itself or through
/// a function that does nothing before it.
pub fn calls_import(image: &Image, function: &Range<VirtAddr>, name: &[u8]) -> bool {
    match image.architecture() {
        Architecture::X86_64 => x86_64::imports::calls_import(image, function, name),
        Architecture::Aarch64 => aarch64::imports::calls_import(image, function, name),
    }
}

/// Finds the instructions that load one of `targets`, in milliseconds. Rarely, one is reported that
/// only looks so. Returns (address of the instruction or near its beginning, target).
pub(crate) fn references(image: &Image, targets: &HashSet<VirtAddr>) -> Vec<(VirtAddr, VirtAddr)> {
    match image.architecture() {
        Architecture::X86_64 => x86_64::references::references(image, targets),
        Architecture::Aarch64 => aarch64::references::references(image, targets),
    }
}

/// The addresses that the code in `range` refers to, ascending: what it loads, and tables that it
/// jumps through.
pub(super) fn referred(image: &Image, range: &Range<VirtAddr>) -> Vec<VirtAddr> {
    match image.architecture() {
        Architecture::X86_64 => x86_64::references::referred(image, range),
        Architecture::Aarch64 => aarch64::references::referred(image, range),
    }
}

/// The addresses that all code of an image puts together, ascending.
pub(super) fn referred_anywhere(image: &Image) -> Vec<VirtAddr> {
    let referred = |range: Range<VirtAddr>| referred(image, &range);
    let mut found: Vec<_> = image.executable_ranges().flat_map(referred).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Where the instructions in `len` bytes of code from `start` on lead, and whose addresses they
/// take, each time that they do.
pub(crate) fn targets(image: &Image, start: VirtAddr, len: usize) -> Vec<VirtAddr> {
    match image.architecture() {
        Architecture::X86_64 => x86_64::targets::targets(image, start, len),
        Architecture::Aarch64 => aarch64::references::targets(image, start, len),
    }
}

/// What a function and those that it calls store in thread-local variables, when its first argument
/// points to a structure with a word of interest `offset` bytes from its start.
pub(crate) fn stores_of_argument(image: &Image, start: VirtAddr, offset: u32) -> Vec<Store> {
    match image.architecture() {
        Architecture::X86_64 => thread_words::stores_of_argument(image, start, offset),
        Architecture::Aarch64 => Vec::new(),
    }
}

/// What functions whose code holds `constant` as a 16-bit operand store in thread-local variables,
/// and what those do that they call, so many calls deep.
pub(crate) fn stores_near_constant(image: &Image, constant: u16, calls: u32) -> Vec<Store> {
    match image.architecture() {
        Architecture::X86_64 => thread_words::stores_near_constant(image, constant, calls),
        Architecture::Aarch64 => Vec::new(),
    }
}

/// Whether the instruction at `at` of a process lies in a small loop with the processor's hint for
/// such loops, that calls nothing. `code` begins [`super::SPIN_WAIT_BYTES`] before it.
pub fn is_spin_wait(code: &[u8], at: ProcAddr) -> bool {
    match Architecture::HOST {
        Architecture::X86_64 => x86_64::spin_wait::is_spin_wait(code, at),
        // The hint for such loops, `isb` or `yield`, is no sign of one there alone.
        Architecture::Aarch64 => false,
    }
}

/// Whether the code in front of where a thread entered the kernel asks for a system call, of which
/// the kernel may not have noted the number: on aarch64 interrupts come before that (`el0_svc` in
/// `arch/arm64/kernel/entry-common.c`, Linux 6.12), on x86_64 they do not, and nothing is read.
pub fn asks_kernel(before: impl FnOnce() -> Option<[u8; 4]>) -> bool {
    const SVC_0: u32 = 0xd400_0001;
    match Architecture::HOST {
        Architecture::X86_64 => false,
        Architecture::Aarch64 => before() == Some(SVC_0.to_le_bytes()),
    }
}

/// How far from the first argument of `start` the byte lies that is tested at `entries`.
pub(super) fn state_byte(
    image: &Image,
    blocks: &mut Blocks,
    start: VirtAddr,
    entries: &HashSet<Tested>,
) -> Option<u32> {
    match image.architecture() {
        Architecture::X86_64 => x86_64::state_byte::find(image, blocks, start, entries),
        Architecture::Aarch64 => None,
    }
}

/// The state machines that a function holds, to tell which awaits complete in its loops.
pub(super) fn machine(
    image: &Image,
    blocks: &mut Blocks,
    panics: &ResumedPanics,
    function: Range<VirtAddr>,
) -> Option<Machine> {
    match image.architecture() {
        Architecture::X86_64 => Machine::of(image, blocks, panics, function),
        Architecture::Aarch64 => None,
    }
}
