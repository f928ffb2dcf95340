//! What a record of the kernel side holds, as the unwinder and the diagnosis want it.

use loopprobe_common::records::{self, Kind, STACK_BYTES, STACK_HEAD, StackRecord, StackSlot};

use crate::{
    code::asks_kernel,
    diagnose::RawSyscall,
    elf::ProcAddr,
    process::Memory,
    unwind::{RawStack, Registers},
};

/// Whether a thread has executed its poll's first instruction at the most. It is in the kernel
/// there because of the entry probe's breakpoint; the kernel executes the instruction, mostly a
/// `push`, on its way back.
pub(super) fn is_at_entry(record: &StackRecord) -> bool {
    const PUSHED: u64 = 8;
    let below = record.entry_sp.wrapping_sub(record.registers.sp);
    record.entry_sp != 0 && below <= PUSHED
}

/// The system call in a record.
pub(crate) fn syscall(record: &StackRecord) -> Option<RawSyscall> {
    RawSyscall::of_thread(record.syscall, record.args)
}

/// Whether a thread was in the kernel without a system call: for memory that is not there yet.
pub(crate) fn in_page_fault(record: &StackRecord, memory: &Memory) -> bool {
    let at_probe = is_at_entry(record) || RawSyscall::is_of_probe(record.syscall);
    let in_kernel = record.in_kernel != 0 || record.kind == Kind::OffCpu as u16;
    in_kernel && syscall(record).is_none() && !at_probe && !begins_call(record, memory)
}

/// Whether a thread has entered the kernel for a system call that the record does not know.
fn begins_call(record: &StackRecord, memory: &Memory) -> bool {
    asks_kernel(|| {
        let mut before = [0; 4];
        let from = record.registers.ip.checked_sub(before.len() as u64)?;
        (memory.read(ProcAddr(from), &mut before) == before.len()).then_some(before)
    })
}

/// The bytes of a stack that is kept.
pub(crate) fn bytes_of(slot: &StackSlot) -> &[u8] {
    &slot.bytes[..(slot.record.len as usize).min(slot.bytes.len())]
}

/// The stack in a record: in one piece or, of a large one, its innermost and its outermost part.
pub(crate) fn raw_stack(record: &StackRecord, bytes: &[u8]) -> RawStack {
    let above = record.registers.sp > record.entry_sp;
    let size = record
        .entry_sp
        .saturating_add(8)
        .saturating_sub(record.registers.sp);
    let in_one_piece = above || size <= bytes.len() as u64;
    let head = if in_one_piece || bytes.len() < STACK_BYTES {
        bytes.len()
    } else {
        STACK_HEAD
    };
    let (bytes, outermost) = bytes.split_at(head);
    RawStack {
        regs: registers(&record.registers),
        bytes: bytes.to_vec(),
        outermost: outermost.to_vec(),
        // A walk on another stack does not lead to the poll's entry.
        entry_sp: (record.entry_sp != 0 && !above).then_some(ProcAddr(record.entry_sp)),
    }
}

/// The registers that an unwinder wants.
pub(crate) fn registers(regs: &records::Registers) -> Registers {
    Registers::of_record(regs)
}
