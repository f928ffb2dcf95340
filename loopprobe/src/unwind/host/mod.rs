//! What differs between processors when stacks are walked: of the processor of this machine, since
//! only stacks of its own processes are.
//!
//! Each of the two has the same items: the registers in framehop's form, how much a call pushes,
//! how code without call frame information returns, and what such code looks like.

#[cfg(any(test, target_arch = "aarch64"))]
#[cfg_attr(
    not(target_arch = "aarch64"),
    allow(dead_code, unused_imports, reason = "its tests run on every machine")
)]
mod aarch64;
#[cfg(not(target_arch = "aarch64"))]
mod x86_64;

use std::{collections::BTreeSet, ops::Range};

#[cfg(target_arch = "aarch64")]
pub(super) use aarch64::{
    CALL_LENGTHS, CALL_PUSHES, Cache, Functions, JUMP_BYTES, RETURN_CODE_PUSHES, Regs, UPROBES,
    Unwinder, WayOut, cache, call_frames, ends_with_call, jump_target, registers, step,
    unwind_registers, unwinder, way_out,
};
#[cfg(not(target_arch = "aarch64"))]
pub(super) use x86_64::{
    CALL_LENGTHS, CALL_PUSHES, Cache, Functions, JUMP_BYTES, RETURN_CODE_PUSHES, Regs, UPROBES,
    Unwinder, WayOut, cache, call_frames, ends_with_call, jump_target, registers, step,
    unwind_registers, unwinder, way_out,
};

/// Why there is no step from code without call frame information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// A frame pointer leads to a word that was not copied.
    Unread(u64),
    /// Nothing proves itself.
    Unproven,
}

/// The code of a function, as far as it can be told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// By address; none overlaps another.
    pub pieces: Vec<Range<u64>>,
    /// Whether a jump's targets could not be told, or there was too much of it: it may have more.
    pub partial: bool,
    /// Other functions to which it jumps in place of a call: their frames take the place of its
    /// own.
    pub tails: BTreeSet<u64>,
}
