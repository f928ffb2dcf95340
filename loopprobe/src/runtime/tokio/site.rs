use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::DebugInfoLevel;
use crate::{
    code::EntryInstruction,
    elf::{FileOffset, VirtAddr},
    model::TaskType,
};

/// Which of Tokio's schedulers a task type is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// `Arc<multi_thread::Handle>`.
    MultiThread,
    /// `Arc<current_thread::Handle>`.
    CurrentThread,
    /// `Arc<task::local::Shared>`: a `LocalSet`.
    Local,
    /// `BlockingSchedule`: the blocking pool.
    Blocking,
    /// An async scheduler; which one could not be told.
    Unknown,
}

/// One task vtable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vtable {
    /// Where it lies in the image.
    pub address: VirtAddr,
    /// Slot 0, `raw::poll<F, S>`: the function's first byte, even where its site's probe was moved past it.
    pub poll: VirtAddr,
    /// Slot 1, `raw::schedule<S>`: one function a scheduler. 0 where the layout has none (before 1.23).
    pub schedule: VirtAddr,
    /// The slot of `raw::dealloc<F, S>`: it refers to the task's drop glue.
    pub dealloc: VirtAddr,
    /// Bytes from the header to the task's trailer; a measure of the future's size.
    pub trailer_offset: u32,
    /// Bytes from the header to the scheduler's pointer. 0 where the layout has none (1.21, 1.22).
    pub scheduler_offset: u32,
    /// Bytes from the header to the task's id. 0 where the layout has none.
    pub id_offset: u32,
    /// Which scheduler.
    pub scheduler: Scheduler,
    /// The future's type.
    pub task: TaskType,
}

/// A function that polls tasks: one `raw::poll<F, S>`, or several that were folded into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Where a probe goes.
    pub offset: FileOffset,
    /// The same place as a virtual address.
    pub address: VirtAddr,
    /// The instruction there.
    pub entry: EntryInstruction,
    /// The vtables whose slot 0 is this function; at least one.
    pub vtables: Vec<Vtable>,
}

/// Where a task's header keeps what is read from outside. Source: `tokio/src/runtime/task/core.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderLayout {
    /// The state word: 0 in every version.
    pub state: u32,
    /// The pointer to the vtable: 0x10 from 1.21 on.
    pub vtable: u32,
    /// Whether the vtables have the eleventh word of `tokio_unstable` builds (the spawn location's offset).
    pub unstable: bool,
}

/// Functions that mark a turn of a loop, where symbols name them. All of them are for entry probes only:
/// a panic may pass them, and a return probe would then abort the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopSymbols {
    /// `tokio::runtime::park::Inner::park`: a thread in `block_on` of a multi_thread runtime is about to park.
    pub park: Vec<FileOffset>,
    /// `CachedParkThread::block_on`: such a thread begins.
    pub block_on: Vec<FileOffset>,
}

/// How the image's Rust symbols are mangled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mangling {
    /// It has no symbols.
    None,
    /// `_ZN`: the default up to Rust 1.96.
    Legacy,
    /// `_R`: spells types in full.
    V0,
    /// Both: the standard library's symbols are v0 earlier than the others.
    Mixed,
}

/// How much of the code `.eh_frame` describes, so that stacks can be unwound through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeCoverage {
    /// Bytes of code in functions that it describes.
    pub covered: u64,
    /// Bytes of executable segments.
    pub total: u64,
}

/// What an image holds of Tokio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokioImage {
    /// The file.
    pub path: PathBuf,
    /// Its GNU build id, in hexadecimal.
    pub build_id: Option<String>,
    /// Tokio's versions, from the panic locations; normally one.
    pub tokio: Vec<String>,
    /// How the versions are known: `locations`, `audit`, or `structure` (then a range).
    pub tokio_source: String,
    /// The task header's layout.
    pub header: HeaderLayout,
    /// Whether it has no symbol table.
    pub stripped: bool,
    /// How its symbols are mangled.
    pub mangling: Mangling,
    /// How much debug information it, or its separate debug file, has.
    pub debug_info: DebugInfoLevel,
    /// The separate debug file that was used.
    pub debug_file: Option<PathBuf>,
    /// How much of the code can be unwound.
    pub eh_frame: CodeCoverage,
    /// Executable segments, as (virtual address, size): a return address in one of them belongs to this image.
    pub text: Vec<(VirtAddr, u64)>,
    /// All poll sites, by offset.
    pub sites: Vec<Site>,
    /// How many of them are functions that `.eh_frame` describes.
    pub described_sites: usize,
    /// Symbols for the root future of multi_thread runtimes.
    pub loop_symbols: LoopSymbols,
}
