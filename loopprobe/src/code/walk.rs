use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    ops::Range,
};

use super::{Blocks, Op, Place, Registers, ResumedPanics};
use crate::elf::{Image, VirtAddr};

/// The lengths of steps. Only their order matters: a jump leads on in the same state machine, a call may lead to an
/// inner one, and testing a state does.
const JUMP: u32 = 2;
const CALL: u32 = 6;
const STATE_TEST: u32 = 3;
/// Outermost state machines lie within 50 of `raw::poll` in all builds tried (Tokio 1.28 to 1.54).
const MAX_DISTANCE: u32 = 160;
/// How much further to look for a second state machine, which would make the first one doubtful.
const MARGIN: u32 = 20;
const MAX_BLOCKS: usize = 4000;
const MAX_QUEUED: usize = 4 * MAX_BLOCKS;

/// A state machine that a walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The address of its panic location.
    pub location: VirtAddr,
    /// How many different bytes in memory were tested on the way, without those of static and thread-local variables, such
    /// as Tokio's context. The first may be its own state; a second one means that another state machine, which embeds
    /// no panic, lies around it.
    pub tests: u32,
}

#[derive(Clone, Debug)]
struct Visit {
    at: VirtAddr,
    registers: Registers,
    tests: u32,
    tested: Option<Place>,
}

/// A walk over code, nearest blocks first, that looks for the panics of state machines.
pub struct Walk<'a> {
    image: &'a Image,
    blocks: &'a mut Blocks,
    panics: &'a ResumedPanics,
    /// If given, calls are not followed, and jumps only within this function.
    within: Option<Range<VirtAddr>>,
    visits: Vec<Visit>,
    queue: BinaryHeap<Reverse<(u32, usize)>>,
    seen: HashSet<VirtAddr>,
    found: Vec<Sighting>,
    limit: u32,
}

impl<'a> Walk<'a> {
    /// Prepares a walk.
    /// With `within`, it stays inside that function.
    pub fn new(
        image: &'a Image,
        blocks: &'a mut Blocks,
        panics: &'a ResumedPanics,
        within: Option<Range<VirtAddr>>,
    ) -> Self {
        Self {
            image,
            blocks,
            panics,
            within,
            visits: Vec::new(),
            queue: BinaryHeap::new(),
            seen: HashSet::new(),
            found: Vec::new(),
            limit: MAX_DISTANCE,
        }
    }

    /// Walks from `start`. Returns the state machines seen, nearest first: the outermost one, and those so close to it
    /// that they might be meant as well; and how many blocks were visited.
    pub fn run(mut self, start: VirtAddr) -> (Vec<Sighting>, usize) {
        let first = Visit {
            at: start,
            registers: Registers::default(),
            tests: 0,
            tested: None,
        };
        self.enqueue(0, first);
        while let Some(Reverse((distance, index))) = self.queue.pop() {
            if distance > self.limit || self.seen.len() >= MAX_BLOCKS {
                break;
            }
            let visit = self.visits[index].clone();
            if self.seen.insert(visit.at) {
                self.visit(distance, visit);
            }
        }
        (self.found, self.seen.len())
    }

    fn visit(&mut self, mut distance: u32, mut visit: Visit) {
        let block = self.blocks.at(self.image, visit.at);
        for op in &block.ops {
            match *op {
                Op::TestByte(_, place) if !place.is_static(&visit.registers) => {
                    distance += STATE_TEST;
                    visit.tests += u32::from(visit.tested.replace(place) != Some(place));
                }
                Op::Call(Some(target)) => {
                    if self.sighted(distance, target, &visit) {
                        return;
                    }
                    if !self.blocks.returns(self.image, target) {
                        return;
                    }
                    if self.within.is_none() {
                        let tests = visit.tests;
                        let callee = Visit {
                            at: target,
                            registers: Registers::default(),
                            tests,
                            tested: None,
                        };
                        self.enqueue(distance + CALL, callee);
                    }
                }
                _ => {}
            }
            op.apply(&mut visit.registers);
        }
        let function = self.image.function_at(visit.at);
        for target in self.blocks.targets(self.image, &block, &visit.registers) {
            if self.sighted(distance, target, &visit) {
                continue;
            }
            let inside = function
                .as_ref()
                .is_none_or(|function| function.contains(&target));
            let tested = visit.tested.filter(|_| inside);
            let next = Visit {
                at: target,
                tested,
                ..visit.clone()
            };
            self.enqueue(distance + if inside { JUMP } else { CALL }, next);
        }
    }

    fn sighted(&mut self, distance: u32, target: VirtAddr, visit: &Visit) -> bool {
        let Some(location) = self.panics.location(target, &visit.registers) else {
            return false;
        };
        if self.found.is_empty() {
            self.limit = distance + MARGIN;
        }
        if self.found.iter().all(|seen| seen.location != location) {
            self.found.push(Sighting {
                location,
                tests: visit.tests,
            });
        }
        true
    }

    fn enqueue(&mut self, distance: u32, visit: Visit) {
        let allowed = self
            .within
            .as_ref()
            .is_none_or(|function| function.contains(&visit.at));
        let room = self.visits.len() < MAX_QUEUED;
        if room && allowed && distance <= self.limit && !self.seen.contains(&visit.at) {
            self.visits.push(visit);
            self.queue.push(Reverse((distance, self.visits.len() - 1)));
        }
    }
}
