//! Searches code, nearest blocks first, for the outermost state machine, and for any beside it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    ops::Range,
};

use super::{Blocks, DynVtable, Op, Place, Registers, ResumedPanics, registers::Gpr};
use crate::elf::{Image, VirtAddr};

/// The lengths of steps. Only their order matters: a jump leads on in the same state machine, a
/// call may lead to an inner one, and testing a state does.
const JUMP: u32 = 2;
const CALL: u32 = 6;
const STATE_TEST: u32 = 3;
/// Outermost state machines lie within 50 of `raw::poll` in all builds tried (Tokio 1.28 to 1.54).
const MAX_DISTANCE: u32 = 160;
/// How much further to look for a second state machine, which would make the first one doubtful.
const MARGIN: u32 = 20;
/// How much further than that to look for what is polled after the first one: through its code,
/// from where it tests its state to where it stores it.
const THROUGH: u32 = 24;
/// A jump's length on that way.
const INNER_JUMP: u32 = 1;
const MAX_BLOCKS: usize = 4000;
const MAX_QUEUED: usize = 4 * MAX_BLOCKS;

/// A state machine that a walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    /// The address of its panic location.
    pub location: VirtAddr,
    /// How many different bytes in memory were tested on the way, without those of static and
    /// thread-local variables, such as Tokio's context. The first may be its own state; a second
    /// one means that another state machine, which embeds no panic, lies around it.
    pub tests: u32,
}

/// What a walk found.
#[derive(Debug)]
pub(super) struct Walked {
    /// The state machines seen, nearest first: the outermost one, and those so close to it that
    /// they might be meant as well.
    pub found: Vec<Sighting>,
    /// Whether the first one polls all others itself: none is polled beside it, before or after.
    pub is_alone: bool,
    /// Where the first one tests its state.
    pub entries: HashSet<Tested>,
    /// How many blocks were visited.
    pub visited: usize,
}

/// A byte in memory, and the end of the block that tested it first: blocks overlap, where one is
/// jumped into.
pub(super) type Tested = (VirtAddr, Place);

#[derive(Clone, Debug)]
struct Visit {
    at: VirtAddr,
    registers: Registers,
    tests: u32,
    tested: Option<Tested>,
    /// On the second walk: in the first state machine's code, whose state is there.
    inside: Option<Place>,
    /// On the second walk: the first state machine has stored its state.
    past: bool,
}

impl Visit {
    fn key(&self) -> (VirtAddr, bool, bool) {
        (self.at, self.inside.is_some(), self.past)
    }
}

/// A walk over code, nearest blocks first, that looks for the panics of state machines.
pub(super) struct Walk<'a> {
    image: &'a Image,
    blocks: &'a mut Blocks,
    panics: &'a ResumedPanics,
    /// If given, calls are not followed, and jumps only within this function.
    within: Option<Range<VirtAddr>>,
    /// State machines that lie around the one that is looked for: none of them is it.
    around: &'a [VirtAddr],
    visits: Vec<Visit>,
    queue: BinaryHeap<Reverse<(u32, usize)>>,
    /// Blocks, and whether they are inside the first state machine, and past it.
    seen: HashSet<(VirtAddr, bool, bool)>,
    found: Vec<Sighting>,
    limit: u32,
    /// Where the first state machine tests its state: what is reached from there is its own or what
    /// it polls, until it stores its state, as it does before it returns.
    entries: HashSet<Tested>,
    second: Option<Second>,
}

/// What the second walk learns of the first state machine.
#[derive(Debug, Default)]
struct Second {
    /// It was seen to store its state.
    leaves: bool,
    /// Another one is polled beside it.
    sibling: bool,
}

impl<'a> Walk<'a> {
    /// Prepares a walk.
    /// With `within`, it stays inside that function.
    pub(super) fn new(
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
            around: &[],
            visits: Vec::new(),
            queue: BinaryHeap::new(),
            seen: HashSet::new(),
            found: Vec::new(),
            limit: MAX_DISTANCE,
            entries: HashSet::new(),
            second: None,
        }
    }

    /// Passes these state machines by, outermost first, given by their panic locations: the first
    /// one is then what the last of them polls.
    pub(super) fn around(self, around: &'a [VirtAddr]) -> Self {
        Self { around, ..self }
    }

    /// Walks from `start`.
    pub(super) fn run(mut self, start: VirtAddr) -> Walked {
        self.walk(start);
        let mut visited = self.seen.len();
        let mut is_alone = false;
        // Without a test of its own, or with two, there is nothing to be certain of.
        let tests = 1 + self.around.len() as u32;
        let is_candidate = self.found.first().is_some_and(|first| first.tests == tests);
        if is_candidate && !self.entries.is_empty() {
            is_alone = self.is_alone(start);
            visited += self.seen.len();
        }
        Walked {
            found: self.found,
            is_alone,
            entries: self.entries,
            visited,
        }
    }

    /// Walks again, and looks for state machines that are reached past the first one, or after it
    /// has stored its state. A future that polls two async functions does so, also where the first
    /// is inlined into it. Where there is too much to look at, it is not certain.
    fn is_alone(&mut self, start: VirtAddr) -> bool {
        self.visits.clear();
        self.queue.clear();
        self.seen.clear();
        self.limit += THROUGH;
        self.second = Some(Second::default());
        self.walk(start);
        let is_whole = self.seen.len() < MAX_BLOCKS && self.visits.len() < MAX_QUEUED;
        let learnt = self.second.take().unwrap_or_default();
        is_whole && learnt.leaves && !learnt.sibling
    }

    fn walk(&mut self, start: VirtAddr) {
        let first = Visit {
            at: start,
            registers: Registers::default(),
            tests: 0,
            tested: None,
            inside: None,
            past: false,
        };
        self.enqueue(0, first);
        while let Some(Reverse((distance, index))) = self.queue.pop() {
            if distance > self.limit || self.seen.len() >= MAX_BLOCKS {
                break;
            }
            let visit = self.visits[index].clone();
            if self.seen.insert(visit.key()) {
                self.visit(distance, visit);
            }
        }
    }

    fn visit(&mut self, mut distance: u32, mut visit: Visit) {
        let block = self.blocks.at(self.image, visit.at);
        for op in &block.ops {
            match *op {
                Op::TestByte(_, place) if !place.is_static(&visit.registers) => {
                    distance += STATE_TEST;
                    self.test((block.end, place), &mut visit);
                }
                Op::Store(place, size) if !place.is_static(&visit.registers) => {
                    self.store(place, size, &mut visit);
                }
                Op::Call(Some(target), _) => {
                    let goes_on = self.call(distance, target, &visit);
                    if !goes_on {
                        return;
                    }
                }
                _ => {}
            }
            op.apply(&mut visit.registers);
            if let Op::Address(register, _) | Op::Add(register, ..) = *op {
                self.boxed(distance, register, &visit);
            }
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
            let step = match (inside, next.inside) {
                (true, Some(_)) => INNER_JUMP,
                (true, None) => JUMP,
                (false, _) => CALL,
            };
            self.enqueue(distance + step, next);
        }
    }

    /// A function is called; whether the code goes on after it. What the first state machine calls
    /// is its own.
    fn call(&mut self, distance: u32, target: VirtAddr, visit: &Visit) -> bool {
        if self.sighted(distance, target, visit) || !self.blocks.returns(self.image, target) {
            return false;
        }
        if self.within.is_none() && visit.inside.is_none() {
            let callee = Visit {
                at: target,
                registers: Registers::default(),
                tests: visit.tests,
                tested: None,
                inside: None,
                past: visit.past,
            };
            self.enqueue(distance + CALL, callee);
        }
        true
    }

    /// The address of a vtable is taken in the code of a wrapper: it may box what it is given (`dyn
    /// Future`), and then polls that by its vtable.
    fn boxed(&mut self, distance: u32, register: Gpr, visit: &Visit) {
        let wrappers = self.around.len();
        let is_wrapper = wrappers > 0 && visit.tests as usize >= wrappers;
        if !is_wrapper || self.within.is_some() || visit.inside.is_some() {
            return;
        }
        let vtable = visit.registers.get(register);
        if let Some(vtable) = vtable.and_then(|vtable| DynVtable::at(self.image, vtable)) {
            let callee = Visit {
                at: vtable.method,
                registers: Registers::default(),
                tested: None,
                inside: None,
                ..visit.clone()
            };
            self.enqueue(distance + CALL, callee);
        }
    }

    /// A byte is tested: it may be the state of the first state machine.
    fn test(&self, test: Tested, visit: &mut Visit) {
        let (_, place) = test;
        if visit.tested.is_none_or(|(_, tested)| tested != place) {
            visit.tests += 1;
            visit.tested = Some(test);
        }
        let is_entry = self.entries.contains(&test) || !visit.past && self.is_state(test);
        if self.second.is_some() && is_entry {
            visit.inside = Some(place);
        }
    }

    /// Whether the byte is one that is tested where the first state machine is entered, in the same
    /// function: compilers duplicate such tests. After it has stored its state, another test of it
    /// can be somebody else's.
    fn is_state(&self, (end, place): Tested) -> bool {
        let last = |end: VirtAddr| VirtAddr(end.0.saturating_sub(1));
        let mut same_place = self.entries.iter().filter(|entry| entry.1 == place);
        self.image
            .function_at(last(end))
            .is_some_and(|function| same_place.any(|entry| function.contains(&last(entry.0))))
    }

    /// Memory is written: if it may be the first state machine's state, its poll ends here.
    fn store(&mut self, place: Place, size: u8, visit: &mut Visit) {
        let is_state = visit.inside.is_some_and(|own| place.may_hold(size, own));
        if let Some(second) = self.second.as_mut().filter(|_| is_state) {
            second.leaves = true;
            visit.inside = None;
            visit.past = true;
            visit.tested = None;
        }
    }

    fn sighted(&mut self, distance: u32, target: VirtAddr, visit: &Visit) -> bool {
        let Some(location) = self.panics.location(target, &visit.registers) else {
            return false;
        };
        if self.around.contains(&location) {
            return true;
        }
        let is_first = self
            .found
            .first()
            .is_none_or(|first| first.location == location);
        if let Some(second) = &mut self.second {
            second.sibling |= !is_first && visit.inside.is_none();
            return true;
        }
        self.entries.extend(visit.tested.filter(|_| is_first));
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
        if room && allowed && distance <= self.limit && !self.seen.contains(&visit.key()) {
            self.visits.push(visit);
            self.queue.push(Reverse((distance, self.visits.len() - 1)));
        }
    }
}
