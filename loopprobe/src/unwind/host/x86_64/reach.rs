//! Which code belongs to a function that no table describes: what its first instruction leads to,
//! without calls.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::{Range, RangeInclusive};

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpKind, Register,
};

use super::flow::{Base, FramePointer, Place, Pointers};
use crate::unwind::host::Reach;

/// How many instructions are read at most; poll functions with a large inlined future have some
/// thousand.
const MAX_INSTRUCTIONS: usize = 1 << 15;
/// The same of a function that is called, to see whether it returns; those that panic are short.
const MAX_CALLED: usize = 256;
/// How many bytes of code are read at once.
const WINDOW: usize = 256;
/// Code is kept in chunks of this size, at most so many.
const CHUNK: u64 = 1 << 14;
const MAX_CHUNKS: usize = 1 << 10;
/// The longest instruction.
const MAX_LENGTH: usize = 15;
/// A jump table is read no further.
const MAX_TABLE: u64 = 256;
/// How far from a function's beginning a jump table leads.
const MAX_JUMP: u64 = 1 << 16;

/// What the frame pointer holds at each call in a function that has one: where it has saved its
/// caller's.
const FRAME: FramePointer = FramePointer::At(Place {
    base: Base::Sp,
    offset: -8,
});

/// Reads functions of one image. `read` gives its bytes.
pub(in crate::unwind) struct Functions<R> {
    read: R,
    info: InstructionInfoFactory,
    /// Whether a function that is called may return.
    returns: HashMap<u64, bool>,
    /// What has been read, by address.
    chunks: HashMap<u64, Vec<u8>>,
}

impl<R: Fn(u64, &mut [u8]) -> usize> Functions<R> {
    /// For one image.
    pub(in crate::unwind) fn of(read: R) -> Self {
        Self {
            read,
            info: InstructionInfoFactory::new(),
            returns: HashMap::new(),
            chunks: HashMap::new(),
        }
    }

    /// Bytes from an address on; fewer where the image or a piece of it ends.
    fn bytes(&mut self, at: u64, bytes: &mut [u8]) -> usize {
        let start = at & !(CHUNK - 1);
        if self.chunks.len() >= MAX_CHUNKS {
            self.chunks.clear();
        }
        let read = &self.read;
        let chunk = self.chunks.entry(start).or_insert_with(|| {
            let mut chunk = vec![0; CHUNK as usize];
            let len = read(start, &mut chunk);
            chunk.truncate(len);
            chunk
        });
        let rest = chunk.get((at - start) as usize..).unwrap_or_default();
        // What crosses the end of a chunk, or lies behind a segment's beginning inside one, is read
        // by itself.
        if rest.len() < bytes.len() {
            return (self.read)(at, bytes);
        }
        bytes.copy_from_slice(&rest[..bytes.len()]);
        bytes.len()
    }

    /// Follows a function with frame pointers from its first instruction.
    pub(in crate::unwind) fn reach(&mut self, start: u64) -> Reach {
        let walk = Walk::new(self, start, MAX_INSTRUCTIONS, true).run();
        Reach {
            partial: walk.partial,
            pieces: merged(walk.pieces),
            tails: walk.tails,
        }
    }

    /// Whether a function may return. Those that panic do not, and the code behind a call to one
    /// belongs to somebody else.
    fn may_return(&mut self, start: u64) -> bool {
        if let Some(known) = self.returns.get(&start) {
            return *known;
        }
        let walk = Walk::new(self, start, MAX_CALLED, false).run();
        let returns = walk.returns || walk.partial;
        self.returns.insert(start, returns);
        returns
    }
}

struct Walk<'a, R> {
    functions: &'a mut Functions<R>,
    start: u64,
    /// Where to go on, and the last table that the code has named.
    queue: Vec<(u64, Pointers, Option<u64>)>,
    /// Jump tables that have not been read yet.
    tables: Vec<(u64, Pointers)>,
    seen: HashSet<u64>,
    /// The addresses that the code has named.
    named: BTreeSet<u64>,
    pieces: BTreeMap<u64, u64>,
    budget: usize,
    partial: bool,
    tails: BTreeSet<u64>,
    /// Whether it came to a return with nothing left on the stack.
    returns: bool,
    /// Whether it came to a return with something left there, to another function's beginning, or
    /// to no instruction: where it began is not this function's.
    strange: bool,
    /// Code that belongs to the function for certain: there is no need to look further.
    known: BTreeMap<u64, u64>,
    /// Whether functions that are called are asked whether they return, and jumps in place of a
    /// call are not followed.
    outer: bool,
}

impl<'a, R: Fn(u64, &mut [u8]) -> usize> Walk<'a, R> {
    fn new(functions: &'a mut Functions<R>, start: u64, budget: usize, outer: bool) -> Self {
        Self {
            functions,
            start,
            queue: vec![(start, Pointers::START, None)],
            tables: Vec::new(),
            seen: HashSet::new(),
            named: BTreeSet::new(),
            pieces: BTreeMap::new(),
            budget,
            partial: false,
            tails: BTreeSet::new(),
            returns: false,
            strange: false,
            known: BTreeMap::new(),
            outer,
        }
    }

    fn run(mut self) -> Self {
        loop {
            while let Some((at, pointers, table)) = self.queue.pop() {
                if self.budget == 0 {
                    self.partial = true;
                    return self;
                }
                if self.seen.insert(at) {
                    self.block(at, pointers, table);
                }
            }
            // The more code is known, the better it is known where a table ends.
            let Some((table, pointers)) = self.tables.pop() else {
                return self;
            };
            let targets = self.table(table, pointers);
            self.partial |= targets.is_empty();
            let found = targets.into_iter();
            self.queue
                .extend(found.map(|target| (target, pointers, None)));
        }
    }

    fn block(&mut self, start: u64, mut pointers: Pointers, mut table: Option<u64>) {
        let mut bytes = [0; WINDOW];
        let len = self.functions.bytes(start, &mut bytes);
        let mut decoder = Decoder::with_ip(64, &bytes[..len], start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() && self.budget > 0 {
            if len == WINDOW && decoder.position() + MAX_LENGTH > len {
                self.queue.push((decoder.ip(), pointers, table));
                break;
            }
            self.budget -= 1;
            decoder.decode_out(&mut instruction);
            if self.known.contains_key(&instruction.ip()) {
                break;
            }
            if instruction.is_invalid() || self.begins_another(&instruction, &pointers) {
                self.strange = true;
                break;
            }
            self.pieces.insert(instruction.ip(), instruction.next_ip());
            if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
                table = Some(instruction.ip_rel_memory_address());
                self.named.extend(table);
            }
            match instruction.flow_control() {
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {
                    let goes_on =
                        !instruction.is_call_near() || self.goes_on(&instruction, &pointers);
                    match pointers.after(&instruction, &mut self.functions.info) {
                        Some(after) if goes_on => pointers = after,
                        Some(_) => break,
                        None => {
                            self.partial = true;
                            self.strange = true;
                            break;
                        }
                    }
                }
                FlowControl::Return => {
                    let balanced = pointers.sp == Pointers::START.sp;
                    self.returns |= balanced;
                    self.strange |= !balanced;
                    break;
                }
                _ => {
                    self.leave(&instruction, pointers, table);
                    break;
                }
            }
        }
    }

    /// Whether the code behind a call belongs to this function.
    fn goes_on(&mut self, call: &Instruction, pointers: &Pointers) -> bool {
        if !self.outer {
            return true;
        }
        if pointers.bp != FRAME {
            self.partial = true;
            return false;
        }
        self.functions.may_return(call.near_branch_target())
    }

    /// A function with frame pointers saves its caller's once, first of all. Where that is done
    /// again, a call before it never returns and another function begins.
    fn begins_another(&self, instruction: &Instruction, pointers: &Pointers) -> bool {
        instruction.code() == Code::Push_r64
            && instruction.op0_register() == Register::RBP
            && (instruction.ip() != self.start && *pointers != Pointers::START)
    }

    fn leave(&mut self, instruction: &Instruction, pointers: Pointers, table: Option<u64>) {
        let is_empty = pointers.sp == Pointers::START.sp && instruction.ip() != self.start;
        match instruction.flow_control() {
            // With nothing on the stack, a jump is a call in its place.
            FlowControl::UnconditionalBranch if is_empty && self.outer => {
                self.tails.insert(instruction.near_branch_target());
            }
            FlowControl::UnconditionalBranch => {
                let target = instruction.near_branch_target();
                self.queue.push((target, pointers, table));
            }
            FlowControl::ConditionalBranch => {
                for target in [instruction.near_branch_target(), instruction.next_ip()] {
                    self.queue.push((target, pointers, table));
                }
            }
            FlowControl::IndirectBranch if is_empty => self.returns = true,
            FlowControl::IndirectBranch => {
                let is_table = instruction.op0_kind() == OpKind::Register;
                match table.filter(|_| is_table && self.known.is_empty()) {
                    Some(table) => self.tables.push((table, pointers)),
                    None => self.partial = true,
                }
            }
            _ => {}
        }
    }

    /// The targets of a jump table of 32-bit distances from its own start. Its length is nowhere to
    /// be read: it ends at the latest where the next thing begins that the function names, or with
    /// the first entry whose code is not this function's.
    fn table(&mut self, table: u64, pointers: Pointers) -> Vec<u64> {
        let near = self.start..self.start.saturating_add(MAX_JUMP);
        let mut targets = Vec::new();
        for index in 0..MAX_TABLE {
            let mut entry = [0; 4];
            let at = table.wrapping_add(4 * index);
            let target = match self.functions.bytes(at, &mut entry) {
                4 => table.wrapping_add_signed(i32::from_le_bytes(entry).into()),
                _ => break,
            };
            let is_named = index > 0 && self.named.contains(&at);
            if is_named || !near.contains(&target) || !self.is_own(target, pointers, table..=at) {
                break;
            }
            targets.push(target);
        }
        targets
    }

    /// Whether the code at a jump's target can belong to this function. Code that names a place
    /// inside the jump's table, as far as that has been read, does not: it is the next function's,
    /// and so is that part of the table.
    fn is_own(&mut self, target: u64, pointers: Pointers, table: RangeInclusive<u64>) -> bool {
        let around = self.pieces.range(..target).next_back();
        if around.is_some_and(|(_, end)| target < *end) {
            return false;
        }
        let mut trial = Walk::new(self.functions, self.start, MAX_CALLED, self.outer);
        trial.queue = vec![(target, pointers, None)];
        trial.known = std::mem::take(&mut self.pieces);
        let trial = trial.run();
        self.pieces = trial.known;
        let begin = *table.start();
        let inside = trial.named.range(table).any(|named| *named != begin);
        !trial.strange && !inside
    }
}

fn merged(instructions: BTreeMap<u64, u64>) -> Vec<Range<u64>> {
    let mut pieces: Vec<Range<u64>> = Vec::new();
    for (start, end) in instructions {
        match pieces.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => pieces.push(start..end),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &[u8]) -> Reach {
        Functions::of(|at: u64, bytes: &mut [u8]| {
            let rest = at
                .checked_sub(0x1000)
                .and_then(|at| code.get(usize::try_from(at).ok()?..))
                .unwrap_or_default();
            let len = rest.len().min(bytes.len());
            bytes[..len].copy_from_slice(&rest[..len]);
            len
        })
        .reach(0x1000)
    }

    fn only(found: &Reach) -> (u64, u64) {
        assert_eq!(found.pieces.len(), 1, "{found:?}");
        (found.pieces[0].start, found.pieces[0].end)
    }

    #[test]
    fn a_function_ends_where_the_next_one_begins_behind_a_call_that_never_returns() {
        // push %rbp; mov %rsp,%rbp; call; then the next one: push %rbp; ret
        let found = of(&[0x55, 0x48, 0x89, 0xe5, 0xe8, 0, 0, 0, 0, 0x55, 0xc3]);
        assert_eq!(only(&found), (0x1000, 0x1009));
        assert!(!found.partial);
    }

    #[test]
    fn jumps_inside_are_followed_and_one_with_an_empty_stack_is_not() {
        // push %rbp; mov %rsp,%rbp; je +2; pop %rbp; ret; pop %rbp; jmp +1; ret; ret
        let code = [
            0x55, 0x48, 0x89, 0xe5, 0x74, 2, 0x5d, 0xc3, 0x5d, 0xeb, 1, 0xc3, 0xc3,
        ];
        let found = of(&code);
        assert_eq!(only(&found), (0x1000, 0x100b));
    }

    #[test]
    fn the_targets_of_a_jump_table_belong_to_it() {
        // push %rbp; mov %rsp,%rbp; lea 0x6(%rip),%rcx; movslq (%rcx,%rax,4),%rax; add %rcx,%rax;
        // jmp *%rax;
        let mut code = vec![0x55, 0x48, 0x89, 0xe5, 0x48, 0x8d, 0x0d, 0x0d, 0, 0, 0];
        code.extend([0x48, 0x63, 0x04, 0x81, 0x48, 0x01, 0xc8, 0xff, 0xe0]);
        // pop %rbp; ret, twice, and the table at 0x1018: to 0x1014 and 0x1016.
        code.extend([0x5d, 0xc3, 0x5d, 0xc3]);
        assert_eq!(code.len(), 0x18);
        code.extend((-4_i32).to_le_bytes());
        code.extend((-2_i32).to_le_bytes());
        let found = of(&code);
        assert_eq!(only(&found), (0x1000, 0x1018));
    }
}
