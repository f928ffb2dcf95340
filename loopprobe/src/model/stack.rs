//! Frames from the blocking call outwards, how long they stood, and how far the walk came.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Role, SourceLocation};

/// What the thread was doing while a stack stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StackKind {
    /// On a CPU; a sample.
    OnCpu,
    /// Waiting in the kernel; exact.
    Blocked,
    /// Ready to run, waiting for a CPU; exact.
    Runnable,
}

/// How far an unwind came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It reached the poll's own entry, proven by the stack pointer kept there, by unwind
    /// information alone.
    Complete,
    /// It reached the entry too, in part by frame pointers: some code has no unwind information.
    /// Each such step proved itself by a call in front of the return address.
    FramePointers,
    /// It reached the entry too, but the return address of a frame without unwind information had
    /// to be found by reading its code or by searching the stack.
    Searched,
    /// The copied part of the stack ended first.
    Truncated,
    /// An address lies in no module, or in one without unwind information.
    NoUnwindInfo,
    /// The unwind information led past the poll's entry, or in a circle.
    Inconsistent,
    /// The user memory could not be read when the stack was taken.
    Unreadable,
    /// The thread had its stack pointer on another stack than the one that its poll began on.
    OtherStack,
}

impl Outcome {
    /// Whether the walk ended exactly at its goal: the poll's entry or, where that is not known,
    /// the thread's first function.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Complete | Self::FramePointers | Self::Searched)
    }
}

/// One function on a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The demangled name without hash, where known.
    pub function: Option<String>,
    /// The whole name with generic arguments, where `function` had to be shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// Other names of the same code: the compiler makes one function of several that do the same,
    /// and which of them was called is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Where in `function` the frame stands; for a nameless frame with `near`, only a hint.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub location: Option<SourceLocation>,
    /// Where the async function or block of this frame is defined, from the panic location that it
    /// embeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<SourceLocation>,
    /// A source file that this frame's code refers to. A hint, often right and never certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<SourceLocation>,
    /// The path of the executable or library.
    pub module: Option<String>,
    /// File offset in `module` of the instruction (of a caller: of the call, not of the return
    /// address).
    pub offset: Option<u64>,
    /// Of code in no file, such as what an interpreter has compiled: the address in the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// File offset in `module` at which the function begins, as its unwind information says. By it,
    /// frames without a name are told apart in graphs and groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_offset: Option<u64>,
    /// Whether the function was inlined into the next frame.
    #[serde(default)]
    pub inlined: bool,
    /// Whether it is the body of an async function or block: for certain, by its name or the
    /// location that it embeds, but for an inlined one, which is told by how it is entered.
    #[serde(default)]
    pub async_body: bool,
    /// Whether the frame belongs to the runtime's or the standard library's plumbing; such frames
    /// are folded in text.
    #[serde(default)]
    pub runtime: bool,
    /// Whose code it is.
    #[serde(default, skip_serializing_if = "Role::is_unknown")]
    pub role: Role,
    /// Of a function without a name: whether its code calls `sched_yield`, as locks do that spin
    /// before they sleep. For the diagnosis only.
    #[serde(skip)]
    pub yields: bool,
    /// Whether it is the function, without a name, through which Rust code gives memory back. For
    /// the diagnosis only.
    #[serde(skip)]
    pub frees: bool,
}

impl Frame {
    /// The function's name and, where the code has others, that it may be one of those: `a`, `a or
    /// b`, `a or 3 others`. `None` without a name.
    pub fn names(&self) -> Option<Cow<'_, str>> {
        let name = self.function.as_deref()?;
        Some(match &self.aliases[..] {
            [] => Cow::Borrowed(name),
            [other] => Cow::Owned(format!("{name} or {other}")),
            others => Cow::Owned(format!("{name} or {} others", others.len())),
        })
    }
}

/// A stack inside one poll, from the blocking call outwards, and how long it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// How long, in nanoseconds. Exact for blocked and runnable time; a share of the on-CPU time
    /// for samples. A blocked stack stands also for the same poll's waits just before it that were
    /// too short for one of their own.
    pub ns: u64,
    /// When it began (`CLOCK_MONOTONIC`, nanoseconds).
    pub start_ns: u64,
    /// What the thread was doing.
    pub kind: StackKind,
    /// How far the unwind came.
    pub outcome: Outcome,
    /// The system call that the thread was in, waiting or on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<String>,
    /// Innermost first.
    pub frames: Vec<Frame>,
}
