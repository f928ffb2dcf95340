//! Which functions a function refers to, decoded once each and bounded in number.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use crate::{
    code::targets,
    elf::{Image, SymbolTable, VirtAddr},
};

/// Functions of the poll chain have a few KiB; the largest state machines some hundred.
const MAX_FUNCTION: usize = 1 << 18;
/// Functions decoded per image, against hostile symbol tables.
const MAX_DECODED: usize = 1 << 15;

/// Which functions a function refers to, decoded once each.
pub(super) struct Callees<'a> {
    image: &'a Image,
    symbols: &'a SymbolTable,
    decoded: RefCell<HashMap<VirtAddr, Rc<[VirtAddr]>>>,
}

impl<'a> Callees<'a> {
    pub(super) fn new(image: &'a Image, symbols: &'a SymbolTable) -> Self {
        Self {
            image,
            symbols,
            decoded: RefCell::default(),
        }
    }

    /// The functions that the one at `function` calls, jumps to, or takes the address of, in the
    /// order of its code.
    pub(super) fn of(&self, function: VirtAddr) -> Rc<[VirtAddr]> {
        if let Some(known) = self.decoded.borrow().get(&function) {
            return Rc::clone(known);
        }
        let found: Rc<[_]> = if self.decoded.borrow().len() < MAX_DECODED {
            self.decode(function).into()
        } else {
            Rc::new([])
        };
        self.decoded
            .borrow_mut()
            .insert(function, Rc::clone(&found));
        found
    }

    fn decode(&self, function: VirtAddr) -> Vec<VirtAddr> {
        let len = self.image.bytes_up_to(function, self.size(function)).len();
        let end = function.0 + len as u64;
        let mut found = Vec::new();
        for target in targets(self.image, function, len) {
            let is_inside = (function.0..end).contains(&target.0);
            if !is_inside && !found.contains(&target) && self.image.is_code(target) {
                found.push(target);
            }
        }
        found
    }

    fn size(&self, function: VirtAddr) -> usize {
        let symbol = self
            .symbols
            .at(function)
            .map(|symbol| symbol.size)
            .find(|size| *size > 0);
        let frame = || {
            self.image
                .function_at(function)
                .map(|range| range.end.0 - function.0)
        };
        symbol.or_else(frame).map_or(0, |size| {
            usize::try_from(size)
                .unwrap_or(MAX_FUNCTION)
                .min(MAX_FUNCTION)
        })
    }
}
