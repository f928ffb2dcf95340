//! Stacks of threads beside polls: walked, named and looked up for whoever asks.

use std::sync::Arc;

use super::Stacks;
use crate::{
    diagnose::{Object, RawSyscall},
    model::Frame,
    unwind::{Module, RawFrame, RawStack, Unwound},
};

impl Stacks {
    /// The frames of a whole stack, innermost first, without names.
    pub(in crate::collect) fn walk(&mut self, raw: &RawStack) -> Unwound {
        self.unwinder.unwind_thread(raw)
    }

    /// The functions of frames, inlined ones included.
    pub(in crate::collect) fn names(&mut self, frames: &[RawFrame]) -> Vec<Frame> {
        self.symbolizer.frames(frames)
    }

    /// What a system call is about.
    pub(in crate::collect) fn object(&self, call: &RawSyscall) -> Option<Object> {
        self.objects.resolve(call)
    }

    /// The process's modules.
    pub(in crate::collect) fn modules(&self) -> Vec<Arc<Module>> {
        self.unwinder.modules().to_vec()
    }
}
