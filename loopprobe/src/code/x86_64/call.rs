//! Where a call leads, from the bytes in front of its return address.

use crate::elf::{Image, VirtAddr};

/// `call rel32`.
const DIRECT: usize = 5;
/// `call *rel32(%rip)`.
const THROUGH_WORD: usize = 6;

/// The function that a call leads to. `inside` is the last byte of the call instruction, as stacks
/// have it of a caller.
///
/// `None` for a call through a register, and for one that leads out of the file.
pub(in crate::code) fn callee(image: &Image, inside: VirtAddr) -> Option<VirtAddr> {
    let after = inside.0.checked_add(1)?;
    let start = VirtAddr(after.checked_sub(THROUGH_WORD as u64)?);
    let bytes = image.bytes_at(start, THROUGH_WORD)?;
    let distance = i32::from_le_bytes(bytes[2..].try_into().ok()?);
    let there = VirtAddr(after.wrapping_add_signed(distance.into()));
    let target = if bytes[..2] == [0xff, 0x15] {
        image.pointer_at(there)
    } else if bytes[THROUGH_WORD - DIRECT] == 0xe8 {
        Some(there)
    } else {
        None
    }?;
    // Other instructions may end like a call, but not by chance at a function's start.
    let function = image.function_at(target)?;
    (function.start == target).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Image;

    #[inline(never)]
    extern "C" fn callee_of_test(number: u64) -> u64 {
        std::hint::black_box(number) + 1
    }

    #[inline(never)]
    extern "C" fn caller_of_test(number: u64) -> u64 {
        std::hint::black_box(callee_of_test(number)) * 3
    }

    #[test]
    fn a_direct_call_leads_to_its_function() {
        assert_eq!(std::hint::black_box(caller_of_test(1)), 6);
        let image = Image::open(std::path::Path::new("/proc/self/exe")).expect("the own file");
        let caller = crate::code::tests::in_file(caller_of_test);
        let wanted = crate::code::tests::in_file(callee_of_test);
        let function = image.function_at(caller).expect("a function");
        let called = |inside| callee(&image, VirtAddr(inside));
        let all: Vec<_> = (function.start.0..function.end.0)
            .filter_map(called)
            .collect();
        assert!(all.contains(&wanted), "{all:?}");
    }
}
