//! Finds polls on a stack whose beginning no probe saw, with the header of their task.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    Memory, Module, RawFrame, RawStack, Unwound,
    host::{self, CALL_PUSHES, Functions, Reach},
};
use crate::{
    elf::{ProcAddr, VirtAddr},
    model::{Outcome, TaskKind},
    runtime::{Runtime, RuntimeImage, Site},
};

/// A poll function that is only a jump to its body is followed this often.
const MAX_JUMPS: usize = 4;
/// No poll function that no table describes is taken to be larger.
const MAX_FUNCTION: u64 = 1 << 18;
/// How much of a thread's stack is searched for the header of one poll.
const MAX_SEARCH_BYTES: u64 = 1 << 20;

/// A poll that is on a thread's stack although its beginning was not seen.
#[derive(Clone, Debug)]
pub struct OpenPoll {
    /// Which frame of the stack is the poll function's.
    pub frame: usize,
    /// The module that it belongs to ([`Module::id`]).
    pub module: u32,
    /// The stack pointer at the poll function's first instruction.
    pub entry_sp: ProcAddr,
    /// The task's header and its key, where the stack holds the pointer still.
    pub task: Option<OpenTask>,
    /// The runtime whose function that is.
    pub runtime: &'static dyn Runtime,
    /// The keys of the types whose poll function this is.
    pub keys: Vec<VirtAddr>,
}

/// The task of an open poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTask {
    /// The task's header.
    pub header: ProcAddr,
    /// Its type's key, as an address in the module's file.
    pub key: VirtAddr,
}

/// The functions that poll tasks, by where their code really is.
#[derive(Clone, Debug, Default)]
pub struct PollFunctions {
    functions: HashMap<(u32, VirtAddr), Function>,
    /// Pieces of those that no table of functions describes, by module and address: where each
    /// ends, and whose it is.
    pieces: BTreeMap<(u32, VirtAddr), (VirtAddr, VirtAddr)>,
    /// The same of functions that may take their place.
    tails: BTreeMap<(u32, VirtAddr), (VirtAddr, VirtAddr)>,
    /// Those that poll async tasks.
    of_tasks: BTreeSet<(u32, VirtAddr)>,
    /// Those of which not all pieces are known.
    partial: BTreeSet<(u32, VirtAddr)>,
    /// Where their probes are, by module.
    probes: HashSet<(u32, VirtAddr)>,
}

/// A function that polls tasks.
#[derive(Clone, Debug)]
struct Function {
    /// Which runtime's.
    image: Arc<dyn RuntimeImage>,
    /// The keys of the types that it polls.
    keys: Vec<VirtAddr>,
}

impl PollFunctions {
    /// Adds the poll sites of a module.
    pub fn add(&mut self, module: &Module, image: &Arc<dyn RuntimeImage>) {
        let mut code =
            Functions::of(|at, bytes: &mut [u8]| module.bytes(VirtAddr(at), bytes, |_| true));
        for site in &image.facts().sites {
            self.probes.insert((module.id(), site.address));
            let body = body(module, site);
            if module.function_at(body).is_none() {
                let found = code.reach(body.0);
                for &tail in &found.tails {
                    let pieces = code.reach(tail).pieces.into_iter();
                    let ends = pieces.map(|piece| {
                        let key = (module.id(), VirtAddr(piece.start));
                        (key, (VirtAddr(piece.end), body))
                    });
                    self.tails.extend(ends);
                }
                self.add_pieces(module, body, found);
            }
            let mut types = site.types.iter();
            if types.any(|served| served.task.kind == TaskKind::Async) {
                self.of_tasks.insert((module.id(), body));
            }
            let function = self
                .functions
                .entry((module.id(), body))
                .or_insert_with(|| Function {
                    image: Arc::clone(image),
                    keys: Vec::new(),
                });
            let keys = site.types.iter().map(|served| served.key);
            function.keys.extend(keys);
        }
    }

    fn add_pieces(&mut self, module: &Module, body: VirtAddr, found: Reach) {
        for piece in found.pieces {
            let key = (module.id(), VirtAddr(piece.start));
            self.pieces.insert(key, (VirtAddr(piece.end), body));
        }
        if found.partial {
            self.partial.insert((module.id(), body));
        }
    }

    /// Whether an address may lie in a function that polls async tasks. In doubt it may.
    pub fn may_poll_tasks(&self, module: &Module, address: ProcAddr) -> bool {
        let address = module.virt(address);
        if let Some(start) = self.start_of(module, address) {
            return self.of_tasks.contains(&(module.id(), start));
        }
        if let Some(start) = piece_at(&self.tails, module, address)
            && self.of_tasks.contains(&(module.id(), start))
        {
            return true;
        }
        let near = VirtAddr(address.0.saturating_sub(MAX_FUNCTION));
        self.partial
            .range((module.id(), near)..=(module.id(), address))
            .any(|function| self.of_tasks.contains(function))
    }

    /// Whether the poll to whose entry a stack was unwound is still open; `None` if the walk did
    /// not get that far, or the thread is at a probe: that of this poll, whose program has just
    /// run, or that of the next one, whose program has not.
    ///
    /// Another function may have been called with the same stack pointer since, so the frame must
    /// be a poll function's.
    pub fn is_open(&self, unwound: &Unwound) -> Option<bool> {
        if let [only] = &*unwound.frames
            && self.is_at_probe(only)
        {
            return None;
        }
        let is_poll = unwound.frames.last().is_some_and(|last| self.is_poll(last));
        match unwound.outcome {
            Outcome::Complete => Some(is_poll),
            // Which function a frame belongs to need not be known without unwind information, so
            // only a poll's tells.
            outcome if outcome.is_whole() => is_poll.then_some(true),
            _ => unwound.passed_entry.then_some(false),
        }
    }

    fn is_poll(&self, frame: &RawFrame) -> bool {
        frame.module.as_ref().is_some_and(|module| {
            self.polling_at(module, module.virt(frame.address))
                .is_some()
        })
    }

    fn is_at_probe(&self, frame: &RawFrame) -> bool {
        frame.module.as_ref().is_some_and(|module| {
            let place = (module.id(), module.virt(frame.address));
            self.probes.contains(&place)
        })
    }

    /// The polls that are open on a stack, innermost first.
    pub fn open_polls(
        &self,
        memory: &Memory,
        raw: &RawStack,
        frames: &[RawFrame],
    ) -> Vec<OpenPoll> {
        self.polls(memory, raw, frames, None).collect()
    }

    /// The innermost poll that was open on a stack: of the task with this number, if its header is
    /// still there.
    pub fn innermost_of(
        &self,
        memory: &Memory,
        raw: &RawStack,
        frames: &[RawFrame],
        task_id: u64,
    ) -> Option<OpenPoll> {
        // For those further out, much of the stack would be searched.
        self.polls(memory, raw, frames, Some(task_id)).next()
    }

    fn polls<'a>(
        &'a self,
        memory: &'a Memory,
        raw: &'a RawStack,
        frames: &'a [RawFrame],
        task_id: Option<u64>,
    ) -> impl Iterator<Item = OpenPoll> + use<'a> {
        let (mut low, mut innermost) = (raw.regs.sp, true);
        frames.iter().enumerate().filter_map(move |(index, frame)| {
            let (module, cfa) = (frame.module.as_ref()?, frame.cfa?);
            let function = self.polling_at(module, module.virt(frame.address))?;
            let search = Search {
                memory,
                raw,
                module,
                function,
                task_id,
            };
            let task = search.task(low, cfa.0, innermost);
            (low, innermost) = (cfa.0, false);
            Some(OpenPoll {
                frame: index,
                module: module.id(),
                entry_sp: ProcAddr(cfa.0.wrapping_sub(CALL_PUSHES)),
                task,
                runtime: function.image.runtime(),
                keys: function.keys.clone(),
            })
        })
    }

    fn polling_at(&self, module: &Module, address: VirtAddr) -> Option<&Function> {
        let start = self.start_of(module, address)?;
        self.functions.get(&(module.id(), start))
    }

    /// The beginning of the function around an address, if that is known.
    fn start_of(&self, module: &Module, address: VirtAddr) -> Option<VirtAddr> {
        match module.function_at(address) {
            Some(function) => Some(function.start),
            None => piece_at(&self.pieces, module, address),
        }
    }
}

/// The search for the header of the task that one frame polls. The poll function keeps the header's
/// address all the while, in a slot of its own frame or in a register that a function below it has
/// saved.
struct Search<'a> {
    memory: &'a Memory,
    raw: &'a RawStack,
    module: &'a Module,
    function: &'a Function,
    /// The task's number; `None`: it is being polled right now.
    task_id: Option<u64>,
}

impl Search<'_> {
    /// Looks from the poll's frame downwards: what lies nearest to it is most likely its own.
    fn task(&self, low: u64, high: u64, with_registers: bool) -> Option<OpenTask> {
        let low = low.max(high.saturating_sub(MAX_SEARCH_BYTES)) & !7;
        let slots = (1..=high.saturating_sub(low) / 8).map(|back| high - back * 8);
        let words = slots.filter_map(|slot| {
            self.raw
                .word(slot)
                .or_else(|| self.memory.word(ProcAddr(slot)))
        });
        let registers = with_registers.then(|| self.raw.regs.callee_saved());
        words
            .chain(registers.into_iter().flatten())
            .find_map(|word| self.task_at(word))
    }

    fn task_at(&self, word: u64) -> Option<OpenTask> {
        let image = &self.function.image;
        let key = match self.task_id {
            None => image.running_task(self.memory, word)?,
            Some(_) => image.task_key(self.memory, word)?,
        };
        let key = self.module.virt(key);
        let is_it = self.function.keys.contains(&key)
            && self.task_id.is_none_or(|id| self.has_id(word, key, id));
        is_it.then_some(OpenTask {
            header: ProcAddr(word),
            key,
        })
    }

    /// Whether the task with this header has this number.
    fn has_id(&self, header: u64, key: VirtAddr, id: u64) -> bool {
        let sites = self.function.image.facts().sites.iter();
        let mut types = sites.flat_map(|site| &site.types);
        types
            .find(|served| served.key == key && served.id_offset != 0)
            .and_then(|served| header.checked_add(u64::from(served.id_offset)))
            .and_then(|at| self.memory.word(ProcAddr(at)))
            == Some(id)
    }
}

/// Whose piece an address lies in.
fn piece_at(
    pieces: &BTreeMap<(u32, VirtAddr), (VirtAddr, VirtAddr)>,
    module: &Module,
    address: VirtAddr,
) -> Option<VirtAddr> {
    let (first, last) = ((module.id(), VirtAddr(0)), (module.id(), address));
    let (_, (end, function)) = pieces.range(first..=last).next_back()?;
    (address < *end).then_some(*function)
}

/// Where the function begins whose frame a site's is. Its probe may lie behind the first
/// instruction. Without LTO `raw::poll` is only a jump to `Harness::poll`, which then owns the
/// frame.
fn body(module: &Module, site: &Site) -> VirtAddr {
    let mut address = site.address;
    for _ in 0..MAX_JUMPS {
        match jump_target(module, address) {
            Some(target) => address = target,
            None => break,
        }
    }
    module
        .function_at(address)
        .map_or(address, |function| function.start)
}

/// The target of a direct jump at an address.
fn jump_target(module: &Module, address: VirtAddr) -> Option<VirtAddr> {
    let mut code = [0; host::JUMP_BYTES];
    let read = module.code(address, &mut code);
    host::jump_target(code.get(..read)?, address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::testing::{complete, own_module};

    /// Without LTO the probe is at a jump to the function that owns the frame, so the frame is no
    /// poll function's there: one sample at the probe cut the poll off at its beginning.
    #[test]
    fn a_thread_at_a_probe_has_not_left_its_poll() {
        let module = own_module();
        let of = |offsets| complete(&module, offsets);
        let mut functions = PollFunctions::default();
        functions.probes.insert((module.id(), VirtAddr(16)));
        assert_eq!(functions.is_open(&of(&[16])), None);
        assert_eq!(functions.is_open(&of(&[32])), Some(false));
        assert_eq!(functions.is_open(&of(&[32, 16])), Some(false));
    }
}
