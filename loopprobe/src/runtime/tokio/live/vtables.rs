//! Vtables of wakers, known by what they point to.

use std::{cell::RefCell, collections::HashMap, ops::Range};

use super::around::is_pointer;
use crate::{
    elf::ProcAddr,
    process::{Maps, Memory},
};

/// `RawWakerVTable`: to clone, to wake in two ways, and to drop.
const FUNCTIONS: usize = 4;

/// Says where there is the vtable of a waker.
#[derive(Debug)]
pub(super) struct Vtables {
    memory: Memory,
    code: Vec<Range<ProcAddr>>,
    known: RefCell<HashMap<u64, bool>>,
}

impl Vtables {
    /// Of a process as it is mapped now. If that cannot be read, there are none.
    pub(super) fn of(pid: u32, memory: Memory) -> Self {
        let maps = Maps::read(pid).unwrap_or_default();
        let code = maps
            .executable()
            .map(|mapping| mapping.start..mapping.end)
            .collect();
        Self {
            memory,
            code,
            known: RefCell::default(),
        }
    }

    /// Whether there is one at an address: all its words point to code of files.
    pub(super) fn is_one(&self, address: u64) -> bool {
        let look = || {
            let mut words = [0; FUNCTIONS];
            let place = (ProcAddr(address), FUNCTIONS);
            let is_code = |word: &u64| self.code.iter().any(|of| of.contains(&ProcAddr(*word)));
            self.memory.places(&[place], &mut words) == 1 && words.iter().all(is_code)
        };
        is_pointer(address) && *self.known.borrow_mut().entry(address).or_insert_with(look)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_vtable_has_four_functions() {
        let pid = std::process::id();
        let vtables = Vtables::of(pid, Memory::of(pid));
        let noop: *const _ = Waker::noop().vtable();
        assert!(vtables.is_one(noop as u64));
        let data = [noop as u64; FUNCTIONS];
        assert!(!vtables.is_one(data.as_ptr() as u64));
        assert!(!vtables.is_one(8));
    }
}
