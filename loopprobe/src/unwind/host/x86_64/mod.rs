//! x86-64: a call pushes its return address, and frames are found from there.

mod calls;
mod flow;
mod reach;
mod unguided;
mod way_out;

use std::ops::RangeInclusive;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use loopprobe_common::records;

pub(in crate::unwind) use self::{
    calls::ends_with_call,
    reach::Functions,
    way_out::{WayOut, way_out},
};
use self::{
    calls::{MAX_CALL, MIN_CALL},
    unguided::{Caller, Standing, caller},
};
use super::Stuck;
use crate::{
    elf::VirtAddr,
    unwind::{Registers, frame::Means, section::SharedBytes},
};

/// framehop's unwinder.
pub(in crate::unwind) type Unwinder = UnwinderX86_64<SharedBytes>;
/// What it remembers.
pub(in crate::unwind) type Cache = CacheX86_64;
/// The registers that it wants.
pub(in crate::unwind) type Regs = UnwindRegsX86_64;

/// How far a call lowers the stack pointer: the return address.
pub(in crate::unwind) const CALL_PUSHES: u64 = 8;
/// The code for return probes saves three registers (`uretprobe_trampoline_entry` in
/// `arch/x86/kernel/uprobes.c`, Linux 6.18).
pub(in crate::unwind) const RETURN_CODE_PUSHES: u64 = 3 * 8;
/// How long a call may be.
pub(in crate::unwind) const CALL_LENGTHS: RangeInclusive<usize> = MIN_CALL..=MAX_CALL;
/// Where the kernel puts the page `[uprobes]` unless something is there: the last one that a
/// program may have (`xol_add_vma` in `kernel/events/uprobes.c`, Linux 6.18, with x86_64's
/// `TASK_SIZE`).
pub(in crate::unwind) const UPROBES: &[(u64, u64)] = &[(0x7fff_ffff_e000, 0x7fff_ffff_f000)];
/// How much code [`jump_target`] looks at.
pub(in crate::unwind) const JUMP_BYTES: usize = 10;

/// An unwinder without modules.
pub(in crate::unwind) fn unwinder() -> Unwinder {
    UnwinderX86_64::new()
}

/// An empty one.
pub(in crate::unwind) fn cache() -> Cache {
    CacheX86_64::new()
}

/// The registers of a thread, for framehop.
pub(in crate::unwind) fn unwind_registers(regs: &Registers) -> Regs {
    UnwindRegsX86_64::new(regs.ip, regs.sp, regs.bp)
}

/// The registers of a thread, from those that the kernel side sends: rax, rbx, rcx, rdx, rsi, rdi,
/// r8 to r15.
pub(in crate::unwind) fn registers(regs: &records::Registers) -> Registers {
    let [_, rbx, _, _, _, _, _, _, _, _, r12, r13, r14, r15] = regs.general;
    let mut saved = [0; Registers::SAVED];
    saved[..5].copy_from_slice(&[rbx, r12, r13, r14, r15]);
    Registers {
        ip: regs.ip,
        sp: regs.sp,
        bp: regs.bp,
        link: 0,
        saved,
    }
}

/// The bytes of an `.eh_frame` as framehop reads them.
pub(in crate::unwind) fn call_frames(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// A step from code without call frame information: the return address, and how it was found.
/// `read` gives words of the stack; `is_proven` says whether the word at an address, with its
/// value, is a return address.
pub(in crate::unwind) fn step(
    regs: &mut Regs,
    way_out: Option<WayOut>,
    read: &impl Fn(u64) -> Option<u64>,
    is_proven: &mut impl FnMut(u64, u64) -> bool,
) -> Result<(u64, Means), Stuck> {
    let standing = Standing {
        sp: regs.sp(),
        bp: regs.bp(),
    };
    let Caller {
        return_address,
        sp,
        bp,
        by,
    } = caller(standing, way_out, read, is_proven)?;
    *regs = UnwindRegsX86_64::new(return_address, sp, bp);
    Ok((return_address, by))
}

/// `push %rbp; mov %rsp,%rbp; pop %rbp`: a frame that is made and given up at once.
const EMPTY_FRAME: [u8; 5] = [0x55, 0x48, 0x89, 0xe5, 0x5d];

/// The target of a direct jump at an address, perhaps behind a frame that is empty.
pub(in crate::unwind) fn jump_target(code: &[u8], address: VirtAddr) -> Option<VirtAddr> {
    let (skipped, jump) = match code.strip_prefix(&EMPTY_FRAME) {
        Some(jump) => (EMPTY_FRAME.len() as u64, jump),
        None => (0, code),
    };
    let (length, distance) = match *jump {
        [0xe9, a, b, c, d, ..] => (5, i64::from(i32::from_le_bytes([a, b, c, d]))),
        [0xeb, distance, ..] => (2, i64::from(distance.cast_signed())),
        _ => return None,
    };
    let next = address.0.wrapping_add(skipped + length);
    Some(VirtAddr(next.wrapping_add_signed(distance)))
}
