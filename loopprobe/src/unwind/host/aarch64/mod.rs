//! aarch64: a call leaves its return address in `x30`, and the stack pointer where it was.

mod cfi;
mod way_out;

use std::ops::RangeInclusive;

use framehop::aarch64::{CacheAarch64, PtrAuthMask, UnwindRegsAarch64, UnwinderAarch64};
use loopprobe_common::records;

use self::way_out::ReturnAddress;
pub(in crate::unwind) use self::{
    cfi::without_signing as call_frames,
    way_out::{WayOut, way_out},
};
use super::{Reach, Stuck};
use crate::{
    code::aarch64::instruction::{Kind, instructions},
    elf::VirtAddr,
    unwind::{Registers, frame::Means, section::SharedBytes},
};

/// framehop's unwinder.
pub(in crate::unwind) type Unwinder = UnwinderAarch64<SharedBytes>;
/// What it remembers.
pub(in crate::unwind) type Cache = CacheAarch64;
/// The registers that it wants.
pub(in crate::unwind) type Regs = UnwindRegsAarch64;

/// How far a call lowers the stack pointer: not at all.
pub(in crate::unwind) const CALL_PUSHES: u64 = 0;
/// What a probed function returns to is a breakpoint, which pushes nothing
/// (`arch_uretprobe_trampoline` in `kernel/events/uprobes.c`, Linux 6.18).
pub(in crate::unwind) const RETURN_CODE_PUSHES: u64 = 0;
/// How long a call is.
pub(in crate::unwind) const CALL_LENGTHS: RangeInclusive<usize> = 4..=4;
/// Where the kernel puts the page `[uprobes]` unless something is there: the last one that a
/// program may have (`xol_add_vma` in `kernel/events/uprobes.c`, Linux 6.18), with addresses of 39,
/// 48 and 52 bits and pages of 4 KiB.
pub(in crate::unwind) const UPROBES: &[(u64, u64)] = &[
    ((1 << 39) - 0x1000, 1 << 39),
    ((1 << 48) - 0x1000, 1 << 48),
    ((1 << 52) - 0x1000, 1 << 52),
];
/// How much code [`jump_target`] looks at.
pub(in crate::unwind) const JUMP_BYTES: usize = 8;

/// The bits of an address. Those above may hold a signature of it
/// (`Documentation/arch/arm64/pointer-authentication.rst`, Linux 6.18); programs are mapped below
/// unless they ask for more.
const ADDRESS_BITS: u64 = (1 << 48) - 1;

/// An unwinder without modules.
pub(in crate::unwind) fn unwinder() -> Unwinder {
    UnwinderAarch64::new()
}

/// An empty one.
pub(in crate::unwind) fn cache() -> Cache {
    CacheAarch64::new()
}

/// The registers of a thread, for framehop.
pub(in crate::unwind) fn unwind_registers(regs: &Registers) -> Regs {
    let mask = PtrAuthMask(ADDRESS_BITS);
    UnwindRegsAarch64::new_with_ptr_auth_mask(mask, regs.link, regs.sp, regs.bp)
}

/// The registers of a thread, from those that the kernel side sends: `x30`, `x19` to `x28`, and
/// some more.
pub(in crate::unwind) fn registers(regs: &records::Registers) -> Registers {
    let [link, saved @ .., _, _, _] = regs.general;
    Registers {
        ip: regs.ip,
        sp: regs.sp,
        bp: regs.bp,
        link,
        saved,
    }
}

/// A step from code without call frame information: the return address, and how it was found.
/// `read` gives words of the stack; `is_proven` says whether the address where the caller's frame
/// begins and this return address are believed.
///
/// Frame pointers do not help: where a frame ends is not told from where its record lies.
pub(in crate::unwind) fn step(
    regs: &mut Regs,
    way_out: Option<WayOut>,
    read: &impl Fn(u64) -> Option<u64>,
    is_proven: &mut impl FnMut(u64, u64) -> bool,
) -> Result<(u64, Means), Stuck> {
    let way = way_out.ok_or(Stuck::Unproven)?;
    let place = |offset: i64| regs.sp().checked_add_signed(offset);
    let word = |offset: i64| {
        let at = place(offset).ok_or(Stuck::Unproven)?;
        read(at).ok_or(Stuck::Unread(at))
    };
    let link = match way.return_address {
        ReturnAddress::InLink => regs.lr(),
        ReturnAddress::At(offset) => word(offset)?,
    } & ADDRESS_BITS;
    let fp = match way.frame_pointer {
        None => regs.fp(),
        Some(offset) => word(offset)?,
    };
    let sp = place(way.frame).filter(|sp| sp.is_multiple_of(16));
    let sp = sp.ok_or(Stuck::Unproven)?;
    if !is_proven(sp, link) {
        return Err(Stuck::Unproven);
    }
    regs.set_lr(link);
    regs.set_sp(sp);
    regs.set_fp(fp);
    Ok((link, Means::Searched))
}

/// Whether `before`, the code in front of an address, is a call.
pub(in crate::unwind) fn ends_with_call(before: &[u8]) -> bool {
    let first = instructions(before, VirtAddr(0)).next();
    first.is_some_and(|(_, one)| matches!(one.kind, Kind::Call(_) | Kind::CallThrough(_)))
}

/// The target of a direct jump at an address, perhaps behind a mark for indirect calls.
pub(in crate::unwind) fn jump_target(code: &[u8], address: VirtAddr) -> Option<VirtAddr> {
    const BTI_C: u32 = 0xd503_245f;
    let mut code = instructions(code, address).filter(|(_, one)| one.word != BTI_C);
    match code.next()?.1.kind {
        Kind::Jump(target) => Some(target),
        _ => None,
    }
}

/// Reads functions that no table describes: none is followed here.
pub(in crate::unwind) struct Functions;

impl Functions {
    /// For one image.
    pub(in crate::unwind) fn of(_read: impl Fn(u64, &mut [u8]) -> usize) -> Self {
        Self
    }

    /// What belongs to the function that begins there: no piece is known.
    #[expect(clippy::unused_self, reason = "the other processor's follows it")]
    pub(in crate::unwind) fn reach(&mut self, _start: u64) -> Reach {
        Reach {
            partial: true,
            ..Reach::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SP: u64 = 0x7fff_0000;

    fn standing() -> Registers {
        Registers {
            ip: 0x1000,
            sp: SP,
            bp: 0x77,
            link: 0x0045_0000_0040_1234,
            ..Registers::default()
        }
    }

    #[test]
    fn a_leaf_returns_to_what_its_register_says_without_the_signature() {
        let way = way_out(0x1000, false, |_, into| {
            let code = [0xd400_0001_u32, 0xd65f_03c0]
                .map(u32::to_le_bytes)
                .concat();
            into[..8].copy_from_slice(&code);
            8
        });
        let mut regs = unwind_registers(&standing());
        let mut asked = Vec::new();
        let found = step(&mut regs, way, &|_| None, &mut |at, word| {
            asked.push((at, word));
            true
        });
        assert_eq!(found, Ok((0x40_1234, Means::Searched)));
        assert_eq!((regs.sp(), regs.fp()), (SP, 0x77));
        assert_eq!(asked, [(SP, 0x40_1234)]);
    }

    #[test]
    fn a_frame_is_believed_only_with_a_call_before_its_return_address() {
        // ldp x29, x30, [sp], #32; ret
        let way = way_out(0x1000, true, |_, into| {
            let code = [0xa8c2_7bfd_u32, 0xd65f_03c0]
                .map(u32::to_le_bytes)
                .concat();
            into[..8].copy_from_slice(&code);
            8
        });
        let read = |at: u64| match at - SP {
            0 => Some(0x7fff_0100),
            8 => Some(0x0012_0000_0040_5678),
            _ => None,
        };
        let mut regs = unwind_registers(&standing());
        let refused = step(&mut regs, way, &read, &mut |_, _| false);
        assert_eq!(refused, Err(Stuck::Unproven));
        let found = step(&mut regs, way, &read, &mut |_, word| word == 0x40_5678);
        assert_eq!(found, Ok((0x40_5678, Means::Searched)));
        assert_eq!((regs.sp(), regs.fp()), (SP + 32, 0x7fff_0100));
    }

    #[test]
    fn calls_and_jumps_are_known() {
        // bl; blr x3; b; ret
        let is_call = |word: u32| ends_with_call(&word.to_le_bytes());
        assert!(is_call(0x97ff_ffe8) && is_call(0xd63f_0060));
        assert!(!is_call(0x17ff_ffe9) && !is_call(0xd65f_03c0));
        let at = VirtAddr(0x1000);
        let code = [0xd503_245f_u32, 0x1400_0004]
            .map(u32::to_le_bytes)
            .concat();
        assert_eq!(jump_target(&code, at), Some(VirtAddr(0x1014)));
        assert_eq!(jump_target(&code[..4], at), None);
    }
}
