//! The blocks of one function, what leads where, and which of them make a loop.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    ops::Range,
};

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register,
};

use super::values::{Value, Values, results_of};
use crate::{
    code::{Blocks, Exit, Op, Registers, ResumedPanics, block::Block},
    elf::{Image, VirtAddr},
};

/// Functions with more blocks are not looked at.
const MAX_NODES: usize = 4000;
/// How often a block is looked at again when more becomes known of what leads to it.
const MAX_VISITS: usize = 3 * MAX_NODES;

/// A byte in memory that is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Store {
    /// By which instruction.
    pub(super) at: VirtAddr,
    /// Where.
    pub(super) place: Value,
    /// What.
    pub(super) source: Source,
}

/// What is written to memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// A number that the instruction holds.
    Number(u8),
    /// What a register holds.
    Register(Register),
}

/// What a block does before it calls anything, in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A register takes a number.
    Load(Register, u8),
    /// A byte is written.
    Store(Store),
}

/// A run of instructions.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) end: VirtAddr,
    pub(super) targets: Vec<VirtAddr>,
    /// Whether it ends in a conditional jump.
    pub(super) is_branch: bool,
    /// Whether it calls anything that returns.
    pub(super) is_called: bool,
    /// Whether the last that it calls is given the context that the function was given, as all are
    /// that are polled.
    pub(super) is_polled: bool,
    /// What its calls give, and whether they are given the context.
    pub(super) results: Vec<(Value, bool)>,
    /// The location of the panic of a finished state machine that it ends in.
    pub(super) panic: Option<VirtAddr>,
    /// What the register holds that it compares last.
    pub(super) compared: Option<Value>,
    /// Whether it tests a single bit last.
    pub(super) tests_bit: bool,
    /// The byte in memory that it tests last.
    pub(super) last_test: Option<Value>,
    /// The bytes that it writes.
    pub(super) stores: Vec<Store>,
    /// What it does before it calls anything.
    pub(super) first_steps: Vec<Step>,
}

/// The blocks of a function, by their starts.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) nodes: HashMap<VirtAddr, Node>,
    /// From where ways lead to each.
    pub(super) before_each: HashMap<VirtAddr, Vec<VirtAddr>>,
    /// What calls have given that were given the context.
    pub(super) results: HashSet<Value>,
}

struct Visit {
    at: VirtAddr,
    registers: Registers,
    values: Values,
}

impl Flow {
    /// Decodes a function. `None` if it is too large.
    pub(super) fn of(
        image: &Image,
        blocks: &mut Blocks,
        panics: &ResumedPanics,
        function: Range<VirtAddr>,
    ) -> Option<Self> {
        let mut flow = Self::default();
        let mut known: HashMap<VirtAddr, Values> = HashMap::new();
        let mut visits = 0;
        let mut queue = VecDeque::from([Visit {
            at: function.start,
            registers: Registers::default(),
            values: Values::at_entry(function.start),
        }]);
        while let Some(mut visit) = queue.pop_front() {
            let merged = match known.get(&visit.at) {
                Some(before) => before.meet(&visit.values, visit.at),
                None => visit.values.clone(),
            };
            if known.get(&visit.at) == Some(&merged) {
                continue;
            }
            known.insert(visit.at, merged.clone());
            visit.values = merged;
            visits += 1;
            if visits > MAX_VISITS || known.len() > MAX_NODES {
                return None;
            }
            let at = visit.at;
            let node = node(image, blocks, panics, &mut visit);
            let is_inside = |target: &&VirtAddr| function.contains(target);
            for &target in node.targets.iter().filter(is_inside) {
                queue.push_back(Visit {
                    at: target,
                    registers: visit.registers.clone(),
                    values: visit.values.clone(),
                });
            }
            flow.nodes.insert(at, node);
        }
        flow.connect();
        Some(flow)
    }

    /// What only the whole tells.
    fn connect(&mut self) {
        for (start, node) in &self.nodes {
            for target in &node.targets {
                self.before_each.entry(*target).or_default().push(*start);
            }
        }
        let results = || self.nodes.values().flat_map(|node| &node.results);
        // Whatever way leads to the call: before the first one the context may just be left over.
        let others: HashSet<Value> = results().filter(|(_, of)| !of).map(|(it, _)| *it).collect();
        let all = results().map(|(result, _)| *result);
        self.results = all.filter(|result| !others.contains(result)).collect();
    }

    /// From where ways lead to a block.
    pub(super) fn before(&self, start: &VirtAddr) -> &[VirtAddr] {
        self.before_each.get(start).map_or(&[][..], Vec::as_slice)
    }

    /// Whether nothing but the branch that a block ends in leads to another. Blocks overlap where
    /// one is jumped into: they end in the same branch.
    pub(super) fn leads_alone(&self, node: &Node, to: &VirtAddr) -> bool {
        let is_same = |before: &VirtAddr| {
            let other = self.nodes.get(before);
            other.is_some_and(|other| other.end == node.end)
        };
        node.targets.contains(to) && self.before(to).iter().all(is_same)
    }

    /// The blocks of the loops that an instruction lies in, those of the shortest loop first; none
    /// where no way leads back to it.
    pub(super) fn loop_of(&self, at: VirtAddr) -> Vec<VirtAddr> {
        let here: Vec<VirtAddr> = self
            .nodes
            .iter()
            .filter(|(start, node)| (start.0..node.end.0).contains(&at.0))
            .map(|(start, _)| *start)
            .collect();
        let forward = |start: &VirtAddr| {
            let node = self.nodes.get(start);
            node.map_or(&[][..], |node| &node.targets[..])
        };
        let backward = |start: &VirtAddr| self.before(start);
        let (behind, before) = (distances(&here, forward), distances(&here, backward));
        let around = behind
            .iter()
            .filter_map(|(start, to)| Some((to + before.get(start)?, *start)));
        let mut around: Vec<(u32, VirtAddr)> = around.collect();
        around.sort_unstable();
        around.into_iter().map(|(_, start)| start).collect()
    }
}

/// All that is reached by a step or more, and by how many at least.
fn distances<'a>(
    from: &[VirtAddr],
    next: impl Fn(&VirtAddr) -> &'a [VirtAddr],
) -> HashMap<VirtAddr, u32> {
    let mut queue: VecDeque<(u32, VirtAddr)> = from.iter().map(|at| (0, *at)).collect();
    let mut reached = HashMap::new();
    while let Some((steps, at)) = queue.pop_front() {
        for &target in next(&at) {
            if let Entry::Vacant(new) = reached.entry(target) {
                new.insert(steps + 1);
                queue.push_back((steps + 1, target));
            }
        }
    }
    reached
}

/// Decodes the block of a visit, and leaves in the visit what is known behind it.
fn node(image: &Image, blocks: &mut Blocks, panics: &ResumedPanics, visit: &mut Visit) -> Node {
    let block = blocks.at(image, visit.at);
    let mut node = Node {
        end: block.end,
        is_branch: matches!(block.exit, Exit::Branch { .. }),
        ..Node::default()
    };
    let goes_on = follow(image, blocks, panics, &block, visit, &mut node);
    if goes_on {
        node.targets = blocks.targets(image, &block, &visit.registers);
        let panic = |target: &VirtAddr| panics.location(*target, &visit.registers);
        node.panic = node.targets.iter().find_map(panic);
    }
    look_at(image, &block, visit, &mut node);
    node
}

/// What is known of the registers behind a block's calls; whether its end is reached.
fn follow(
    image: &Image,
    blocks: &mut Blocks,
    panics: &ResumedPanics,
    block: &Block,
    visit: &mut Visit,
    node: &mut Node,
) -> bool {
    for op in &block.ops {
        if let Op::Call(target, _) = op {
            if let Some(target) = target {
                node.panic = panics.location(*target, &visit.registers);
                if node.panic.is_some() || !blocks.returns(image, *target) {
                    return false;
                }
            }
            node.is_called = true;
        }
        op.apply(&mut visit.registers);
    }
    true
}

/// Which bytes a block tests and writes, by the values of the registers there.
fn look_at(image: &Image, block: &Block, visit: &mut Visit, node: &mut Node) {
    let length = block.end.0.saturating_sub(visit.at.0) as usize;
    let bytes = image.bytes_up_to(visit.at, length);
    let (mut is_called, mut factory) = (false, InstructionInfoFactory::new());
    for instruction in Decoder::with_ip(64, bytes, visit.at.0, DecoderOptions::NONE) {
        if instruction.mnemonic() == Mnemonic::Call {
            is_called = true;
            node.is_polled = visit.values.has_context();
            let results = results_of(&instruction).map(|result| (result, node.is_polled));
            node.results.extend(results);
        }
        if matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) {
            node.compared = visit.values.get(instruction.op0_register());
            node.tests_bit = instruction.mnemonic() == Mnemonic::Test
                && instruction.op1_kind() != OpKind::Register;
        }
        let place = visit
            .values
            .place(&instruction)
            .filter(|_| is_byte(&instruction));
        if let Some(place) = place {
            if let Some(source) = written(&instruction) {
                let at = VirtAddr(instruction.ip());
                let store = Store { at, place, source };
                node.stores.push(store);
                if !is_called {
                    node.first_steps.push(Step::Store(store));
                }
            } else if is_test(&instruction) {
                node.last_test = Some(place);
            }
        }
        if let Some(load) = loaded(&instruction).filter(|_| !is_called) {
            node.first_steps.push(load);
        }
        visit.values.apply(&instruction, &mut factory);
    }
}

/// Whether an instruction names a byte in memory by a register and a distance.
fn is_byte(instruction: &Instruction) -> bool {
    let is_memory =
        instruction.op0_kind() == OpKind::Memory || instruction.op1_kind() == OpKind::Memory;
    let is_plain = instruction.memory_index() == Register::None
        && instruction.segment_prefix() == Register::None
        && instruction.memory_base().is_gpr64()
        && instruction.memory_base() != Register::RSP;
    is_memory && is_plain && instruction.memory_size().size() == 1
}

/// What an instruction writes to memory, if it is a byte.
fn written(instruction: &Instruction) -> Option<Source> {
    let is_store =
        instruction.mnemonic() == Mnemonic::Mov && instruction.op0_kind() == OpKind::Memory;
    is_store.then(|| match instruction.op1_kind() {
        OpKind::Register => Source::Register(instruction.op1_register().full_register()),
        _ => Source::Number(instruction.immediate8()),
    })
}

/// Whether a register takes a small number, as states are.
fn loaded(instruction: &Instruction) -> Option<Step> {
    let is_load = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && matches!(
            instruction.op1_kind(),
            OpKind::Immediate8 | OpKind::Immediate32
        );
    let number = is_load.then(|| instruction.immediate(1))?;
    let register = instruction.op0_register().full_register();
    Some(Step::Load(register, u8::try_from(number).ok()?))
}

fn is_test(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Cmp
    )
}
