//! What machine code tells without symbols: which constants a piece of code uses, and what it
//! calls.
//!
//! Code is decoded one basic block at a time, where a walk asks for it, and kept. Nothing here
//! needs symbols, unwind tables or section headers. The bytes are untrusted: a block is bounded in
//! length, a jump table in entries, and who walks bounds the number of blocks.

pub(crate) mod aarch64;
mod block;
mod by_architecture;
mod dyn_vtable;
mod hint;
mod location;
mod point;
mod reach;
mod registers;
mod resumed;
mod state_machine;
mod walk;
mod x86_64;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    rc::Rc,
};

use block::{Block, Exit, Op, Place, absolute_table, relative_table, short_table};
pub use by_architecture::{
    argument_point, asks_kernel, callee, calls_import, deallocators, is_cheap, is_spin_wait,
    probe_point,
};
pub(crate) use by_architecture::{references, stores_near_constant, stores_of_argument, targets};
pub use dyn_vtable::DynVtable;
pub use hint::{locations_in, near};
pub use location::{is_workspace, panic_location, registry_crate, short_path};
pub use point::{EntryInstruction, Leads, ProbePoint};
pub use reach::locations_near;
use registers::Registers;
use resumed::ResumedPanics;
pub use state_machine::{Definition, StateMachines, Wrapped};
use walk::{Walk, Walked};
pub(crate) use x86_64::thread_words::{Store, Stored};
pub use x86_64::{
    argument::ArgumentPoint, awaits::Completion, spin_wait::SPIN_WAIT_BYTES,
    thread_words::ThreadPlace,
};

use crate::elf::{Image, VirtAddr};

/// How many operations are kept decoded, of 24 bytes each. Walks from the 135 task types of a 38 MB
/// program need a tenth of it.
const MAX_KEPT: usize = 1 << 21;
/// How far tail calls are followed, and into how many blocks in all, to see whether a function
/// returns: panic functions are short.
const MAX_TAIL_CALLS: u32 = 3;
const MAX_PANIC_BLOCKS: usize = 192;
/// No function that has been compiled is larger; unwind tables that say so are not believed.
const MAX_FUNCTION: u64 = 1 << 22;

/// The decoded blocks of one image.
#[derive(Debug, Default)]
struct Blocks {
    blocks: HashMap<VirtAddr, Rc<Block>>,
    /// Operations in `blocks`, and one for each block.
    kept: usize,
    /// What each function refers to, by its start: where a jump table must end at the latest.
    referred: HashMap<VirtAddr, Vec<VirtAddr>>,
    /// The same of all functions together, of an image whose tables can only end there.
    referred_anywhere: Option<Vec<VirtAddr>>,
    /// Whether each called function returns.
    returns: HashMap<VirtAddr, bool>,
}

impl Blocks {
    /// The block that begins at `start`.
    fn at(&mut self, image: &Image, start: VirtAddr) -> Rc<Block> {
        if let Some(block) = self.blocks.get(&start) {
            return Rc::clone(block);
        }
        let block = Rc::new(by_architecture::block(image, start));
        if self.kept < MAX_KEPT {
            self.kept += block.ops.len() + 1;
            self.blocks.insert(start, Rc::clone(&block));
        }
        block
    }

    /// Where the code goes on after `block`, given what is known of the registers then. A jump
    /// table's targets are in the table's order.
    fn targets(&mut self, image: &Image, block: &Block, registers: &Registers) -> Vec<VirtAddr> {
        match block.exit {
            Exit::Next(next) | Exit::Jump(next) => vec![next],
            Exit::Branch { taken, next } => vec![taken, next],
            Exit::RelativeTable(register) => match registers.get(register) {
                Some(table) => relative_table(image, table, self.table_limit(image, block, table)),
                None => Vec::new(),
            },
            Exit::AbsoluteTable(table) => {
                absolute_table(image, table, self.table_limit(image, block, table))
            }
            Exit::ShortTable { table, base, size } => match registers.get(table) {
                Some(table) => {
                    let limit = self.short_table_limit(image, table);
                    short_table(image, table, (base, size), limit)
                }
                None => Vec::new(),
            },
            Exit::Return | Exit::Unknown | Exit::End => Vec::new(),
        }
    }

    /// A table of short distances ends at the latest where the next thing begins that any function
    /// refers to: whatever lies there could be read as such a distance.
    fn short_table_limit(&mut self, image: &Image, table: VirtAddr) -> VirtAddr {
        let referred = self
            .referred_anywhere
            .get_or_insert_with(|| by_architecture::referred_anywhere(image));
        let after = referred.partition_point(|address| *address <= table);
        referred.get(after).copied().unwrap_or(table)
    }

    /// A table ends at the latest where the next thing begins that the same function refers to.
    fn table_limit(&mut self, image: &Image, block: &Block, table: VirtAddr) -> VirtAddr {
        let small = |function: &Range<VirtAddr>| function.end.0 - function.start.0 <= MAX_FUNCTION;
        let Some(function) = image.function_at(VirtAddr(block.end.0 - 1)).filter(small) else {
            return VirtAddr(u64::MAX);
        };
        let referred = self
            .referred
            .entry(function.start)
            .or_insert_with(|| by_architecture::referred(image, &function));
        let after = referred.partition_point(|address| *address <= table);
        referred.get(after).copied().unwrap_or(VirtAddr(u64::MAX))
    }

    /// Whether `function` may return. Panic functions do not, and the code after a call to one
    /// belongs to somebody else.
    fn returns(&mut self, image: &Image, function: VirtAddr) -> bool {
        if let Some(known) = self.returns.get(&function) {
            return *known;
        }
        let mut blocks = MAX_PANIC_BLOCKS;
        let returns = self.may_return(image, function, MAX_TAIL_CALLS, &mut blocks);
        self.returns.insert(function, returns);
        returns
    }

    /// A function that ends in a call, on all of its ways, does not return. In doubt it does.
    fn may_return(
        &mut self,
        image: &Image,
        function: VirtAddr,
        tail_calls: u32,
        blocks: &mut usize,
    ) -> bool {
        let Some(range) = image.function_at(function).filter(|_| tail_calls > 0) else {
            return true;
        };
        let (mut queue, mut seen) = (vec![function], HashSet::new());
        while let Some(at) = queue.pop() {
            if !seen.insert(at) {
                continue;
            }
            if *blocks == 0 {
                return true;
            }
            *blocks -= 1;
            let block = self.at(image, at);
            let targets = match block.exit {
                Exit::End => continue,
                Exit::Next(next) | Exit::Jump(next) => vec![next],
                Exit::Branch { taken, next } => vec![taken, next],
                _ => return true,
            };
            for target in targets {
                if range.contains(&target) {
                    queue.push(target);
                } else if self.may_return(image, target, tail_calls - 1, blocks) {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a function of this program lies in its file.
    pub(super) fn in_file(function: extern "C" fn(u64) -> u64) -> VirtAddr {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("the own map");
        let exe = std::env::current_exe().expect("the own file");
        let exe = exe.to_string_lossy();
        let first = maps.lines().find(|line| line.ends_with(&*exe));
        let base = first.and_then(|line| line.split('-').next());
        let base = u64::from_str_radix(base.expect("a mapping"), 16).expect("an address");
        VirtAddr(function as usize as u64 - base)
    }
}
