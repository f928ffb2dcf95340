//! Panic locations that code and what it calls refer to, nearest first, in at most 600 blocks.

use std::collections::{HashSet, VecDeque};

use super::{Blocks, Op, Registers, panic_location};
use crate::{
    elf::{Image, VirtAddr},
    model::SourceLocation,
};

/// A function's own code and that of what it calls, directly and at second or third hand, in
/// blocks.
const MAX_BLOCKS: usize = 600;

/// The panic locations that the code from `start` on refers to, nearest first, with the number of
/// calls on the way (at most `max_calls`).
pub fn locations_near(
    image: &Image,
    start: VirtAddr,
    max_calls: u32,
) -> Vec<(u32, SourceLocation)> {
    let mut blocks = Blocks::default();
    let mut queue = VecDeque::from([(0, start, Registers::default())]);
    let (mut seen, mut addresses, mut found) = (HashSet::new(), HashSet::new(), Vec::new());
    while let Some((calls, at, mut registers)) = queue.pop_front() {
        if seen.len() >= MAX_BLOCKS {
            break;
        }
        if !seen.insert(at) {
            continue;
        }
        let block = blocks.at(image, at);
        let mut goes_on = true;
        for op in &block.ops {
            match *op {
                Op::Address(_, address) if addresses.insert(address) => {
                    found.extend(panic_location(image, address).map(|location| (calls, location)));
                }
                Op::Add(_, from, number) => {
                    let sum = |from: VirtAddr| VirtAddr(from.0.wrapping_add_signed(number));
                    let sum = registers.get(from).map(sum);
                    if let Some(address) = sum.filter(|address| addresses.insert(*address)) {
                        let location = panic_location(image, address);
                        found.extend(location.map(|location| (calls, location)));
                    }
                }
                Op::Call(Some(target), _) => {
                    if calls < max_calls {
                        queue.push_back((calls + 1, target, Registers::default()));
                    }
                    if !blocks.returns(image, target) {
                        goes_on = false;
                        break;
                    }
                }
                _ => {}
            }
            op.apply(&mut registers);
        }
        if !goes_on {
            continue;
        }
        // Blocks of the same function come before those of its callees.
        for target in blocks.targets(image, &block, &registers) {
            queue.push_front((calls, target, registers.clone()));
        }
    }
    found
}
