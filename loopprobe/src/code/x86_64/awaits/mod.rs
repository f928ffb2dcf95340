//! Where the loop that a piece of code stands in has just seen an await complete.
//!
//! A state machine tells so in two ways. Where the awaited async function is inlined, it stores 1
//! into that one's state; where the awaited future is polled by a call, a branch on the result
//! leads past the stores of its own state, which only a suspended one makes. A poll is told from
//! other calls by what it is given: the context that the function itself was given.

mod flow;
mod values;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use iced_x86::Register;

use self::{
    flow::{Flow, Node, Source, Step},
    values::Value,
};
use crate::{
    code::{Blocks, ResumedPanics, panic_location},
    elf::{Image, VirtAddr},
    model::SourceLocation,
};

/// Blocks between the test of a state and the panic of a finished one: comparisons or a table.
const TO_PANIC: u32 = 4;
/// Blocks that are looked at on the way: a table has an entry an await.
const MAX_LOOKED_AT: u32 = 512;
/// Blocks between the branch on an awaited result and the store of a suspended state.
const TO_SUSPENSION: u32 = 4;
/// Blocks between the call of what is awaited and the branch: ready with nothing, with something.
const TO_CALL: u32 = 3;
/// A state from here on is an await's (`CoroutineArgs` in `compiler/rustc_middle/src/ty/sty.rs`).
const FIRST_AWAIT: u8 = 3;
/// What a state machine is in after its end.
const RETURNED: u8 = 1;

/// An instruction that is executed each time when an await has completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Its address.
    pub at: VirtAddr,
    /// Where the async function or block is defined that was awaited, if it is one that is inlined.
    pub of: Option<SourceLocation>,
}

/// The state of a state machine: where it lies, as the registers tell, and the location that its
/// panic has.
type States = HashMap<Value, VirtAddr>;

/// A function that holds state machines.
#[derive(Debug)]
pub(in crate::code) struct Machine {
    flow: Flow,
    states: States,
}

impl Machine {
    /// `None` if the function holds none, or is too large.
    pub(in crate::code) fn of(
        image: &Image,
        blocks: &mut Blocks,
        panics: &ResumedPanics,
        function: Range<VirtAddr>,
    ) -> Option<Self> {
        let flow = Flow::of(image, blocks, panics, function)?;
        let states = states(&flow);
        (!states.is_empty()).then_some(Self { flow, states })
    }

    /// The completions of awaits in the loops that `at` lies in, those in the shortest loop first.
    pub(in crate::code) fn completions(&self, image: &Image, at: VirtAddr) -> Vec<Completion> {
        let Self { flow, states } = self;
        let order = flow.loop_of(at);
        let inside: HashSet<VirtAddr> = order.iter().copied().collect();
        let mut found: Vec<Completion> = Vec::new();
        for start in order {
            let Some(node) = flow.nodes.get(&start) else {
                continue;
            };
            let called = ready_side(flow, start, node, states, &inside);
            let called = called.map(|at| Completion { at, of: None });
            for one in returned(image, node, states).into_iter().chain(called) {
                // Blocks overlap, where one is jumped into.
                if found.iter().all(|other| other.at != one.at) {
                    found.push(one);
                }
            }
        }
        found
    }
}

/// The bytes that are tested right before a state machine panics for being polled after its end.
fn states(flow: &Flow) -> States {
    let mut states = States::new();
    for node in flow.nodes.values() {
        let Some(place) = node.last_test else {
            continue;
        };
        let mut looked_at = MAX_LOOKED_AT;
        if let Some(location) = panic_of(flow, node, TO_PANIC, &mut looked_at) {
            states.insert(place, location);
        }
    }
    states
}

/// The panic that a test leads to, with no other test in between.
fn panic_of(flow: &Flow, node: &Node, left: u32, looked_at: &mut u32) -> Option<VirtAddr> {
    *looked_at = looked_at.checked_sub(1)?;
    node.panic.or_else(|| {
        let mut targets = node.targets.iter().filter_map(|at| flow.nodes.get(at));
        let nearer = left.checked_sub(1)?;
        targets.find_map(|next| {
            let is_way = next.last_test.is_none() && !next.is_called;
            is_way
                .then(|| panic_of(flow, next, nearer, looked_at))
                .flatten()
        })
    })
}

/// The stores in a block that say that an inlined async function has returned.
fn returned(image: &Image, node: &Node, states: &States) -> Vec<Completion> {
    let ends = node
        .stores
        .iter()
        .filter(|store| matches!(store.source, Source::Number(RETURNED)));
    let completions = ends.filter_map(|store| {
        let location = states.get(&store.place)?;
        Some(Completion {
            at: store.at,
            of: panic_location(image, *location),
        })
    });
    completions.collect()
}

/// Where a block goes on if what it awaits was ready, and only then: its other side suspends.
fn ready_side(
    flow: &Flow,
    start: VirtAddr,
    node: &Node,
    states: &States,
    inside: &HashSet<VirtAddr>,
) -> Option<VirtAddr> {
    let [one, other] = node.targets[..] else {
        return None;
    };
    let tests_result = node
        .compared
        .is_some_and(|value| flow.results.contains(&value));
    // Behind a poll of several, whose result is another's, a bit tells which are left to poll.
    let is_after_poll = || !node.tests_bit && is_after_poll(flow, start);
    if !node.is_branch || !(tests_result || is_after_poll()) {
        return None;
    }
    let side = |ready: VirtAddr, suspends: VirtAddr| {
        let is_certain = inside.contains(&ready) && flow.leads_alone(node, &ready);
        (is_certain && suspends_at(flow, suspends, states)).then_some(ready)
    };
    side(one, other).or_else(|| side(other, one))
}

/// Whether a block tests what a poll has just given, or is one of several tests of it. That the
/// call is given the context tells it from a condition around an await.
fn is_after_poll(flow: &Flow, start: VirtAddr) -> bool {
    let mut at = start;
    for _ in 0..TO_CALL {
        let Some(node) = flow.nodes.get(&at) else {
            return false;
        };
        if node.is_called {
            return node.is_polled;
        }
        let alone = |before: &&VirtAddr| {
            let node = flow.nodes.get(before);
            node.is_some_and(|node| flow.leads_alone(node, &at))
        };
        match flow.before(&at).first().filter(alone) {
            Some(before) => at = *before,
            None => return false,
        }
    }
    false
}

/// Whether the code from a block on stores the state of a suspended await, whatever else.
fn suspends_at(flow: &Flow, start: VirtAddr, states: &States) -> bool {
    let mut at = start;
    let mut registers: HashMap<Register, u8> = HashMap::new();
    for _ in 0..TO_SUSPENSION {
        let Some(node) = flow.nodes.get(&at) else {
            return false;
        };
        for step in &node.first_steps {
            match step {
                Step::Load(register, number) => {
                    registers.insert(*register, *number);
                }
                Step::Store(store) if states.contains_key(&store.place) => {
                    let value = match store.source {
                        Source::Number(number) => Some(number),
                        Source::Register(register) => registers.get(&register).copied(),
                    };
                    return value.is_some_and(|value| value >= FIRST_AWAIT);
                }
                Step::Store(_) => {}
            }
        }
        match node.targets[..] {
            [next] if !node.is_called => at = next,
            _ => return false,
        }
    }
    false
}
