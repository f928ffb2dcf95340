use std::{collections::HashMap, sync::Arc};

use framehop::{
    Error, FrameAddress, Unwinder as _,
    x86_64::{CacheX86_64, UnwindRegsX86_64},
};

use super::{Memory, Module, RawFrame, RawStack, Unwound, modules::Modules};
use crate::{
    elf::{ProcAddr, VirtAddr},
    model::Outcome,
    process::ProcessError,
};

/// More frames than fit in the copied part of a stack with any substance in each; a walk ends there.
const MAX_FRAMES: usize = 1024;

/// Addresses whose unwind information was found harmless or not, kept at most; beyond it the store starts anew.
const MAX_CHECKED: usize = 1 << 16;

/// Unwinds stacks of one process.
pub struct Unwinder {
    modules: Modules,
    /// The process's, if there is one.
    memory: Option<Memory>,
    cache: CacheX86_64,
    /// Whether the unwind information for an address of a module can be evaluated in bounded time.
    checked: HashMap<(u32, VirtAddr), bool>,
}

/// Where a walk ends.
#[derive(Clone, Copy)]
enum Goal {
    /// At the frame whose return address was at this stack address.
    Entry(u64),
    /// At the thread's first function.
    Thread,
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

    /// Unwinds stacks from copies alone, with the modules of no process that is there. They must not overlap.
    pub fn of_modules(modules: Vec<Module>) -> Self {
        Self::with(Modules::fixed(modules), None)
    }

    fn with(modules: Modules, memory: Option<Memory>) -> Self {
        Self {
            modules,
            memory,
            cache: CacheX86_64::new(),
            checked: HashMap::new(),
        }
    }

    /// The modules that are known, by address.
    pub fn modules(&self) -> &[Arc<Module>] {
        self.modules.all()
    }

    /// Reads the mappings again, after the process has executed another program or loaded a library.
    ///
    /// # Errors
    ///
    /// When the process's mappings cannot be read.
    pub fn reload(&mut self) -> Result<(), ProcessError> {
        self.modules.reload()
    }

    /// Unwinds up to the poll's entry, or, where that is not known, to the thread's first function. Only the copied bytes
    /// are read. They are dropped.
    pub fn unwind(&mut self, raw: RawStack) -> Unwound {
        let goal = raw.entry_sp.map_or(Goal::Thread, |sp| Goal::Entry(sp.0));
        self.walk(&raw, goal, |address| raw.word(address))
    }

    /// Unwinds a thread that stands still to its first function, reading what was not copied from the process itself.
    /// [`Outcome::Complete`] means here that the unwind information marks the end.
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
        Unwound {
            outcome: self.outcome(raw, end, &frames),
            passed_entry: end.is_beyond(goal) && frames.iter().all(is_covered),
            frames,
        }
    }

    fn steps(
        &mut self,
        raw: &RawStack,
        goal: Goal,
        read: impl Fn(u64) -> Option<u64>,
        frames: &mut Vec<RawFrame>,
    ) -> End {
        let mut regs = UnwindRegsX86_64::new(raw.regs.ip, raw.regs.sp, raw.regs.bp);
        let mut address = FrameAddress::from_instruction_pointer(raw.regs.ip);
        let mut last_cfa = 0;
        while frames.len() < MAX_FRAMES {
            let place = ProcAddr(address.address_for_lookup());
            self.modules.expect(place);
            let module = self.modules.at(place).cloned();
            let bounded = module
                .as_ref()
                .is_none_or(|module| self.is_bounded(module, place));
            frames.push(RawFrame {
                address: place,
                cfa: None,
                module,
            });
            if !bounded {
                return End::Astray;
            }
            let mut read_stack = |at| match goal {
                // The word at the entry need not have been copied, and the walk does not follow it.
                Goal::Entry(entry) if at == entry => Ok(read(at).unwrap_or(1).max(1)),
                _ => read(at).ok_or(()),
            };
            let step = self.modules.framehop.unwind_frame(
                address,
                &mut regs,
                &mut self.cache,
                &mut read_stack,
            );
            let next = match step {
                Ok(Some(next)) => next,
                Ok(None) => return End::of_thread(goal),
                Err(error) => return End::failed(&error),
            };
            let cfa = regs.sp();
            let Some(slot) = cfa.checked_sub(8).filter(|_| cfa > last_cfa) else {
                return End::Astray;
            };
            last_cfa = cfa;
            if let Some(frame) = frames.last_mut() {
                frame.cfa = Some(ProcAddr(cfa));
            }
            if let Goal::Entry(entry) = goal {
                match slot.cmp(&entry) {
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

    /// Whether framehop may evaluate what a module says for an address.
    fn is_bounded(&mut self, module: &Module, address: ProcAddr) -> bool {
        if self.checked.len() > MAX_CHECKED {
            self.checked.clear();
        }
        let address = module.virt(address);
        *self
            .checked
            .entry((module.id(), address))
            .or_insert_with(|| module.image.is_bounded_at(address))
    }

    /// Names how a walk ended. A walk that went astray did so at the first frame without unwind information, if there
    /// is one: there framehop guesses by frame pointers.
    fn outcome(&self, raw: &RawStack, end: End, frames: &[RawFrame]) -> Outcome {
        let copied_to = raw.regs.sp.saturating_add(raw.bytes.len() as u64);
        match end {
            End::Arrived if frames.iter().all(is_covered) => Outcome::Complete,
            End::Arrived => Outcome::FramePointers,
            _ if raw.bytes.is_empty() => Outcome::Unreadable,
            _ if !frames.iter().all(is_covered) => Outcome::NoUnwindInfo,
            End::Unread(address) if address.saturating_add(8) > copied_to => Outcome::Truncated,
            End::Unread(_) | End::Beyond | End::Astray => Outcome::Inconsistent,
        }
    }
}

/// How a walk ended.
#[derive(Clone, Copy)]
enum End {
    /// At its goal.
    Arrived,
    /// A word on the stack could not be read.
    Unread(u64),
    /// Beyond the goal.
    Beyond,
    /// In a circle, or at an end that is not the goal.
    Astray,
}

impl End {
    fn of_thread(goal: Goal) -> Self {
        match goal {
            Goal::Thread => Self::Arrived,
            Goal::Entry(_) => Self::Astray,
        }
    }

    /// Whether a frame reaches beyond the goal. What lies there is not copied.
    fn is_beyond(self, goal: Goal) -> bool {
        match (self, goal) {
            (Self::Beyond, _) => true,
            (Self::Unread(address), Goal::Entry(entry)) => address > entry && address != u64::MAX,
            _ => false,
        }
    }

    fn failed(error: &Error) -> Self {
        match error {
            Error::CouldNotReadStack(address) => Self::Unread(*address),
            Error::FramepointerUnwindingMovedBackwards
            | Error::DidNotAdvance
            | Error::IntegerOverflow
            | Error::ReturnAddressIsNull => Self::Astray,
        }
    }
}

fn is_covered(frame: &RawFrame) -> bool {
    frame.module.as_ref().is_some_and(|module| {
        if module.image.eh_frame_hdr.is_some() {
            let address: VirtAddr = module.virt(frame.address);
            module.function_at(address).is_some()
        } else {
            module.image.has_unwind_info()
        }
    })
}
