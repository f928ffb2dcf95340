//! Walks one stack: by call frame information where a module has it, else by what proves itself.

use std::{collections::HashMap, sync::Arc};

use framehop::{FrameAddress, Unwinder as _};

use super::{
    Means, Memory, Module, RawFrame, RawStack, Unwound,
    end::{End, Goal},
    host::{
        self, CALL_LENGTHS, CALL_PUSHES, RETURN_CODE_PUSHES, Regs, Stuck, WayOut, ends_with_call,
        way_out,
    },
    modules::Modules,
};
use crate::{
    elf::{ProcAddr, VirtAddr},
    model::Outcome,
    process::ProcessError,
};

/// More frames than fit in the copied part of a stack with any substance in each; a walk ends
/// there.
const MAX_FRAMES: usize = 1024;

/// Addresses whose unwind information was found harmless or not, kept at most; beyond it the store
/// starts anew.
const MAX_CHECKED: usize = 1 << 16;

/// Unwinds stacks of one process.
pub struct Unwinder {
    modules: Modules,
    /// The process's, if there is one.
    memory: Option<Memory>,
    cache: host::Cache,
    /// What there is of unwind information for an address of a module.
    covers: HashMap<(u32, VirtAddr), Cover>,
    /// Of addresses without any: how the code there returns, and whether a call lies in front.
    ways_out: HashMap<(u32, VirtAddr), Option<WayOut>>,
    calls: HashMap<(u32, VirtAddr), bool>,
}

/// The unwind information for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cover {
    Good,
    /// It cannot be evaluated in bounded time.
    Unbounded,
    None,
}

impl Unwinder {
    /// Reads the process's modules, so that stacks can be unwound also after it has ended.
    ///
    /// # Errors
    ///
    /// When the process's mappings cannot be read.
    pub fn new(pid: u32) -> Result<Self, ProcessError> {
        Ok(Self::with(Modules::of(pid)?, Some(Memory::of(pid))))
    }

    /// Unwinds stacks from copies alone, with the modules of no process that is there. They must
    /// not overlap.
    pub fn of_modules(modules: Vec<Module>) -> Self {
        Self::with(Modules::fixed(modules), None)
    }

    fn with(modules: Modules, memory: Option<Memory>) -> Self {
        Self {
            modules,
            memory,
            cache: host::cache(),
            covers: HashMap::new(),
            ways_out: HashMap::new(),
            calls: HashMap::new(),
        }
    }

    /// The modules that are known, by address.
    pub fn modules(&self) -> &[Arc<Module>] {
        self.modules.all()
    }

    /// Reads the mappings again, after the process has executed another program or loaded a
    /// library.
    ///
    /// # Errors
    ///
    /// When the process's mappings cannot be read.
    pub fn reload(&mut self) -> Result<(), ProcessError> {
        self.modules.reload()
    }

    /// Unwinds up to the poll's entry, or, where that is not known, to the thread's first function.
    /// Only the copied bytes are read. They are dropped.
    pub fn unwind(&mut self, raw: RawStack) -> Unwound {
        let goal = raw.entry_sp.map_or(Goal::Thread, |sp| Goal::Entry(sp.0));
        self.walk(&raw, goal, |address| raw.word(address))
    }

    /// Unwinds a thread that stands still to its first function, reading what was not copied from
    /// the process itself. [`Outcome::Complete`] means here that the unwind information marks the
    /// end.
    pub fn unwind_thread(&mut self, raw: &RawStack) -> Unwound {
        let memory = self.memory;
        self.walk(raw, Goal::Thread, |address| {
            raw.word(address)
                .or_else(|| memory?.word(ProcAddr(address)))
        })
    }

    fn walk(&mut self, raw: &RawStack, goal: Goal, read: impl Fn(u64) -> Option<u64>) -> Unwound {
        let mut frames = Vec::new();
        if raw.regs.ip == 0 || raw.regs.sp == 0 {
            return Unwound {
                outcome: Outcome::Unreadable,
                frames,
                passed_entry: false,
            };
        }
        let end = self.steps(raw, goal, read, &mut frames);
        let outcome = self.outcome(raw, end, &frames);
        let passed_entry = end.is_beyond(goal) && frames.iter().all(has_information);
        if let (Goal::Entry(_), false) = (goal, outcome.is_whole())
            && let Some(guess) = frames.iter().position(|frame| frame.by == Means::Searched)
        {
            // Arriving at the entry was to prove it.
            frames.truncate(guess + 1);
        }
        Unwound {
            outcome,
            frames,
            passed_entry,
        }
    }

    fn steps(
        &mut self,
        raw: &RawStack,
        goal: Goal,
        read: impl Fn(u64) -> Option<u64>,
        frames: &mut Vec<RawFrame>,
    ) -> End {
        let mut regs = host::unwind_registers(&raw.regs);
        let mut address = FrameAddress::from_instruction_pointer(raw.regs.ip);
        // The word at the entry need not have been copied, and the walk does not follow it.
        let read = |at| match goal {
            Goal::Entry(entry) if at == entry => Some(read(at).unwrap_or(1).max(1)),
            _ => read(at),
        };
        let mut last_cfa = 0;
        while frames.len() < MAX_FRAMES {
            let Some((frame, cover)) = self.frame(ProcAddr(address.address_for_lookup())) else {
                return End::AtProbe;
            };
            frames.push(frame);
            let step = match cover {
                Cover::Good => self.guided(address, &mut regs, &read, goal),
                Cover::None => self.unguided(address, &mut regs, &read, goal),
                Cover::Unbounded => Err(End::Astray),
            };
            let (next, by) = match step {
                Ok(step) => step,
                Err(end) => return end,
            };
            let cfa = regs.sp();
            let Some(entered) = cfa.checked_sub(CALL_PUSHES).filter(|_| cfa > last_cfa) else {
                return End::Astray;
            };
            last_cfa = cfa;
            if let Some(frame) = frames.last_mut() {
                frame.cfa = Some(ProcAddr(cfa));
                frame.by = by;
            }
            if let Goal::Entry(entry) = goal {
                match entered.cmp(&entry) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return End::Arrived,
                    std::cmp::Ordering::Greater => return End::Beyond,
                }
            }
            match FrameAddress::from_return_address(next) {
                Some(next) => address = next,
                None => return End::of_thread(goal),
            }
        }
        End::Unread(u64::MAX)
    }

    /// The frame of an address, and how well its module's call frame information covers it; `None`
    /// in the kernel's page of uprobes.
    fn frame(&mut self, place: ProcAddr) -> Option<(RawFrame, Cover)> {
        self.modules.expect(place);
        if self.modules.is_uprobe(place) {
            return None;
        }
        let module = self.modules.on_stack(place);
        let cover = module
            .as_ref()
            .map_or(Cover::None, |module| self.cover(module, place));
        let frame = RawFrame {
            address: place,
            cfa: None,
            module,
            by: Means::CallFrames,
        };
        Some((frame, cover))
    }

    /// A step by call frame information: the return address.
    fn guided(
        &mut self,
        address: FrameAddress,
        regs: &mut Regs,
        read: &impl Fn(u64) -> Option<u64>,
        goal: Goal,
    ) -> Result<(u64, Means), End> {
        let mut read = |at| read(at).ok_or(());
        let framehop = &self.modules.framehop;
        match framehop.unwind_frame(address, regs, &mut self.cache, &mut read) {
            Ok(Some(next)) => Ok((next, Means::CallFrames)),
            Ok(None) => Err(End::of_thread(goal)),
            Err(error) => Err(End::failed(&error)),
        }
    }

    /// A step without.
    fn unguided(
        &mut self,
        address: FrameAddress,
        regs: &mut Regs,
        read: &impl Fn(u64) -> Option<u64>,
        goal: Goal,
    ) -> Result<(u64, Means), End> {
        let way_out = self.way_out(ProcAddr(address.address()), address.is_return_address());
        let mut is_proven = |entered, word| match goal {
            Goal::Entry(entry) if entered == entry => true,
            _ => self.follows_call(ProcAddr(word)),
        };
        match host::step(regs, way_out, read, &mut is_proven) {
            Ok(step) => Ok(step),
            // A frame pointer into the part that was not copied; beyond the entry it is none.
            Err(Stuck::Unread(at)) if matches!(goal, Goal::Entry(entry) if at < entry) => {
                Err(End::Unread(at))
            }
            Err(_) => Err(End::Astray),
        }
    }

    fn cover(&mut self, module: &Module, address: ProcAddr) -> Cover {
        let address = module.virt(address);
        *bounded(&mut self.covers)
            .entry((module.id(), address))
            .or_insert_with(|| {
                if !module.is_covered(address) {
                    Cover::None
                } else if module.image.is_bounded_at(address) {
                    Cover::Good
                } else {
                    Cover::Unbounded
                }
            })
    }

    fn way_out(&mut self, address: ProcAddr, is_caller: bool) -> Option<WayOut> {
        let modules = &self.modules;
        let memory = self.memory;
        let find = || {
            way_out(address.0, is_caller, |at, bytes| {
                code(modules, memory, ProcAddr(at), bytes)
            })
        };
        match modules.at(address) {
            Some(module) => *bounded(&mut self.ways_out)
                .entry((module.id(), module.virt(address)))
                .or_insert_with(find),
            None => find(),
        }
    }

    /// Whether an address is one that a call returns to.
    fn follows_call(&mut self, address: ProcAddr) -> bool {
        self.modules.expect(address);
        let modules = &self.modules;
        let memory = self.memory;
        let look = || {
            CALL_LENGTHS.rev().any(|len| {
                let mut before = [0; *CALL_LENGTHS.end()];
                let before = &mut before[..len];
                let start = ProcAddr(address.0.saturating_sub(len as u64));
                code(modules, memory, start, before) == len && ends_with_call(before)
            })
        };
        match modules.at(address) {
            Some(module) => *bounded(&mut self.calls)
                .entry((module.id(), module.virt(address)))
                .or_insert_with(look),
            None => look(),
        }
    }

    /// Names how a walk ended.
    fn outcome(&self, raw: &RawStack, end: End, frames: &[RawFrame]) -> Outcome {
        let copied_to = raw.regs.sp.saturating_add(raw.bytes.len() as u64);
        match end {
            End::Arrived => Means::of(frames).outcome(),
            End::AtProbe if frames.is_empty() && is_at_entry(raw) => Outcome::Complete,
            End::AtProbe => Outcome::NoUnwindInfo,
            _ if raw.bytes.is_empty() => Outcome::Unreadable,
            End::Unread(address) if address.saturating_add(8) > copied_to => Outcome::Truncated,
            _ if !frames.iter().all(has_information) => Outcome::NoUnwindInfo,
            End::Unread(_) | End::Beyond | End::Astray => Outcome::Inconsistent,
        }
    }
}

fn has_information(frame: &RawFrame) -> bool {
    frame
        .module
        .as_ref()
        .is_some_and(|module| module.is_covered(module.virt(frame.address)))
}

/// Bytes of code from an address on: of a module's file, or of the process's memory where there is
/// none. Returns how many.
fn code(modules: &Modules, memory: Option<Memory>, address: ProcAddr, bytes: &mut [u8]) -> usize {
    let is_code = match modules.at(address) {
        Some(module) if module.file().is_some() => {
            return module.code(module.virt(address), bytes);
        }
        // The vDSO, which no file holds.
        Some(_) => true,
        None => modules.is_generated(address),
    };
    memory
        .filter(|_| is_code)
        .map_or(0, |memory| memory.read(address, bytes))
}

/// A store that starts anew when it has grown large.
fn bounded<T>(store: &mut HashMap<(u32, VirtAddr), T>) -> &mut HashMap<(u32, VirtAddr), T> {
    if store.len() > MAX_CHECKED {
        store.clear();
    }
    store
}

/// Whether a thread stands at its poll's own probe, or in the code for return probes.
fn is_at_entry(raw: &RawStack) -> bool {
    raw.entry_sp.is_some_and(|entry| {
        let behind = entry.0.saturating_add(CALL_PUSHES);
        (behind.saturating_sub(RETURN_CODE_PUSHES)..=behind).contains(&raw.regs.sp)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::Registers;

    const ENTRY: u64 = 0x7fff_0000;

    /// What is unwound of a thread on the page `[uprobes]`.
    fn at_probe(sp: u64) -> Unwound {
        Unwinder::of_modules(Vec::new()).unwind(RawStack {
            regs: Registers {
                ip: host::UPROBES[0].0 + 1,
                sp,
                ..Registers::default()
            },
            bytes: vec![1; 64],
            outermost: Vec::new(),
            entry_sp: Some(ProcAddr(ENTRY)),
        })
    }

    #[test]
    fn a_probes_page_is_no_frame() {
        let own = at_probe(ENTRY + CALL_PUSHES - RETURN_CODE_PUSHES);
        assert!(own.frames.is_empty());
        assert_eq!(own.outcome, Outcome::Complete);
        let of_another = at_probe(ENTRY - 0x100);
        assert!(of_another.frames.is_empty());
        assert_eq!(of_another.outcome, Outcome::NoUnwindInfo);
    }
}
