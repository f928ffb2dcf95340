//! Thread-local variables that code writes to: where they lie, told from the instructions alone.

mod sweep;
mod value;

use std::ops::Range;

use memchr::memmem;

use self::sweep::{Follow, Sweep};
pub(crate) use self::sweep::{Store, Stored};
pub use self::value::ThreadPlace;
use crate::elf::{Image, VirtAddr};

/// What a function and those that it calls store in thread-local variables, when its first argument
/// points to a structure with a word of interest `offset` bytes from its start.
pub(crate) fn stores_of_argument(image: &Image, start: VirtAddr, offset: u32) -> Vec<Store> {
    let is_found = |store: &Store| store.what == Stored::Wanted;
    let mut last = Vec::new();
    for follow in [Follow::Wanted, Follow::Argument, Follow::All] {
        last = Sweep::new(image, follow, Some(offset.into())).run(start);
        if last.iter().any(is_found) {
            break;
        }
    }
    last
}

/// What functions whose code holds `constant` as a 16-bit operand store in thread-local variables,
/// and what those do that they call, so many calls deep.
pub(crate) fn stores_near_constant(image: &Image, constant: u16, calls: u32) -> Vec<Store> {
    let pattern = constant.to_le_bytes();
    let finder = memmem::Finder::new(&pattern);
    let mut functions: Vec<Range<VirtAddr>> = Vec::new();
    for range in image.executable_ranges() {
        let (mut pieces, mut left) = (image.pieces(range, MAX_BEFORE, 1), MAX_FOUND);
        while let Some(piece) = pieces.next() {
            let code = piece.bytes;
            let is_operand = |at: &usize| is_word_store(&code[at.saturating_sub(MAX_BEFORE)..*at]);
            let found = finder.find_iter(code).filter(|at| piece.own.contains(at));
            let found = found.filter(is_operand).take(left);
            let found = found.map(|at| piece.address(at));
            let found = found.map(|at| image.function_at(at).unwrap_or(around(at)));
            let before = functions.len();
            functions.extend(found);
            left -= functions.len() - before;
        }
    }
    functions.sort_unstable_by_key(|function| function.start);
    functions.dedup();
    functions.truncate(MAX_FUNCTIONS);
    let sweep = |function| Sweep::new(image, Follow::All, None).piece(function, calls);
    functions.into_iter().flat_map(sweep).collect()
}

/// The code around a place in a function whose bounds are not known. Decoding falls into step after
/// a few instructions.
fn around(at: VirtAddr) -> Range<VirtAddr> {
    const BEFORE: u64 = 512;
    const BEHIND: u64 = 64;
    VirtAddr(at.0.saturating_sub(BEFORE))..VirtAddr(at.0.saturating_add(BEHIND))
}

/// Places that are looked at in a segment; most are in functions with others.
const MAX_FOUND: usize = 1 << 16;
/// Functions that are looked through for one constant; programs of 100 MB have some dozens.
const MAX_FUNCTIONS: usize = 1024;
/// The bytes of a store before its operand: prefixes, opcode, address.
const MAX_BEFORE: usize = 10;

/// Whether the bytes before an operand can be those of `movw $operand, memory`: an operand-size
/// prefix and opcode 0xc7; or of `mov $operand, %reg`, which is stored later.
fn is_word_store(before: &[u8]) -> bool {
    let is_move = matches!(before.last(), Some(0xb8..=0xbf));
    let has = |byte: u8| before.contains(&byte);
    is_move || has(0x66) && has(0xc7)
}

#[cfg(test)]
mod tests {
    use std::{arch::asm, cell::Cell, hint::black_box};

    use super::*;
    use crate::code::tests::in_file;

    thread_local! {
        static KEPT: Cell<u64> = const { Cell::new(0) };
        static MARK: Cell<u16> = const { Cell::new(0) };
    }

    const MARKED: u16 = 0x7a31;

    #[repr(C)]
    struct Argument {
        before: [u64; 5],
        wanted: u64,
    }

    #[inline(never)]
    extern "C" fn keeps(argument: u64) -> u64 {
        // SAFETY: the only caller passes the address of an `Argument`.
        let argument = unsafe { &*(argument as *const Argument) };
        KEPT.replace(black_box(argument.before[0])) + keeps_it(argument.wanted)
    }

    #[inline(never)]
    extern "C" fn keeps_it(wanted: u64) -> u64 {
        MARK.set(MARKED);
        KEPT.replace(wanted)
    }

    /// Where a variable of this thread lies.
    fn place<T>(variable: &Cell<T>) -> ThreadPlace {
        let thread_pointer: u64;
        // SAFETY: the first word of a thread's own variables is their address.
        unsafe { asm!("mov {}, fs:0", out(reg) thread_pointer) };
        let address = variable.as_ptr() as usize as u64;
        ThreadPlace::Fixed(address.wrapping_sub(thread_pointer).cast_signed())
    }

    #[test]
    fn stores_of_a_word_and_of_a_number_are_found_where_the_variables_lie() {
        let argument = Argument {
            before: [0; 5],
            wanted: 1,
        };
        black_box(keeps(&raw const argument as usize as u64));
        let image = Image::open(std::path::Path::new("/proc/self/exe")).expect("the own file");
        let offset = std::mem::offset_of!(Argument, wanted) as u32;
        let stores = stores_of_argument(&image, in_file(keeps), offset);
        let wanted: Vec<_> = stores
            .iter()
            .filter(|store| store.what == Stored::Wanted)
            .map(|store| (store.place, store.size))
            .collect();
        assert!(!wanted.is_empty(), "{stores:?}");
        let here = (KEPT.with(place), 8);
        assert!(
            wanted.iter().all(|found| *found == here),
            "{wanted:?} {here:?}"
        );
        let marks: Vec<_> = stores_near_constant(&image, MARKED, 0)
            .into_iter()
            .filter(|store| store.size == 2 && store.what == Stored::Number(MARKED.into()))
            .map(|store| store.place)
            .collect();
        assert_eq!(marks, [MARK.with(place)]);
    }
}
