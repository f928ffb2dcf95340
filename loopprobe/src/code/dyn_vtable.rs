//! The vtables of trait objects.

use crate::elf::{Image, VirtAddr};

/// No value on the heap is larger.
const MAX_SIZE: u64 = 1 << 26;
const MAX_ALIGN: u64 = 1 << 12;
const WORD: u64 = 8;

/// A trait object's vtable: drop glue (or none), size, alignment, then the methods in the trait's
/// order. `Future` has one.
///
/// Source: `compiler/rustc_middle/src/ty/vtable.rs`, `COMMON_VTABLE_ENTRIES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynVtable {
    /// The size of the value, in bytes.
    pub size: u64,
    /// The first method: `poll` of a `dyn Future`.
    pub method: VirtAddr,
}

impl DynVtable {
    /// The one at an address, if what lies there can be one.
    pub fn at(image: &Image, address: VirtAddr) -> Option<Self> {
        let slot = |index: u64| Some(VirtAddr(address.0.checked_add(index * WORD)?));
        let code = |index| {
            image
                .pointer_at(slot(index)?)
                .filter(|target| image.is_code(*target))
        };
        let plain = |index| image.u64_at(slot(index)?).filter(|_| code(index).is_none());
        if code(0).is_none() && plain(0)? != 0 {
            return None;
        }
        let (size, align) = (plain(1)?, plain(2)?);
        let credible =
            size <= MAX_SIZE && align.is_power_of_two() && align <= MAX_ALIGN && size % align == 0;
        credible.then_some(Self {
            size,
            method: code(3)?,
        })
    }
}
