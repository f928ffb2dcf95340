//! Addresses of a walked stack before they have names, and by which means each was found.

use std::sync::Arc;

use super::Module;
use crate::{
    elf::{FileOffset, ProcAddr, VirtAddr},
    model::Outcome,
};

/// One frame of a stack, before it has a name.
#[derive(Clone, Debug)]
pub struct RawFrame {
    /// An address inside the instruction that is being executed: of a caller, of the call and not
    /// of the return.
    pub address: ProcAddr,
    /// The frame's canonical frame address: the stack pointer before the call that made the frame.
    /// `None` where the unwind ended with this frame.
    pub cfa: Option<ProcAddr>,
    /// The module that holds the address.
    pub module: Option<Arc<Module>>,
    /// How its caller was found.
    pub by: Means,
}

/// How a frame's caller was found, the surest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Means {
    /// By call frame information.
    #[default]
    CallFrames,
    /// By the frame pointer, proven by a call in front of the return address.
    FramePointers,
    /// By reading the code forward to its return, proven in the same way.
    Searched,
}

impl Means {
    /// What a walk that reached its goal so is called.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::CallFrames => Outcome::Complete,
            Self::FramePointers => Outcome::FramePointers,
            Self::Searched => Outcome::Searched,
        }
    }

    /// The least sure one of those by which these frames were found.
    pub(crate) fn of(frames: &[RawFrame]) -> Self {
        frames
            .iter()
            .map(|frame| frame.by)
            .max()
            .unwrap_or_default()
    }
}

impl RawFrame {
    /// The address in the module's file.
    pub fn virt(&self) -> Option<VirtAddr> {
        Some(self.module.as_ref()?.virt(self.address))
    }

    /// The position in the module's file.
    pub fn offset(&self) -> Option<FileOffset> {
        self.module.as_ref()?.offset(self.address)
    }
}

/// A stack after unwinding.
#[derive(Clone, Debug)]
pub struct Unwound {
    /// How far it came.
    pub outcome: Outcome,
    /// Innermost first. Of a complete one, the last frame is the poll function itself.
    pub frames: Vec<RawFrame>,
    /// Whether the walk came to a frame that lies beyond the poll's entry: the poll is not on the
    /// stack.
    pub passed_entry: bool,
}

/// Stacks for tests, in the program of the tests itself.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::unwind::Unwinder;

    /// The module of the running program.
    pub(crate) fn own_module() -> Arc<Module> {
        let unwinder = Unwinder::new(std::process::id()).unwrap();
        let own = std::env::current_exe().unwrap();
        let mut modules = unwinder.modules().iter();
        Arc::clone(modules.find(|module| module.path() == own).unwrap())
    }

    /// A stack that was walked to its end, with frames that lie so far behind the module's
    /// beginning, innermost first.
    pub(crate) fn complete(module: &Arc<Module>, offsets: &[u64]) -> Unwound {
        let frame = |offset: &u64| RawFrame {
            address: ProcAddr(module.bias().wrapping_add(*offset)),
            cfa: None,
            module: Some(Arc::clone(module)),
            by: Means::CallFrames,
        };
        Unwound {
            outcome: Outcome::Complete,
            frames: offsets.iter().map(frame).collect(),
            passed_entry: false,
        }
    }
}
