//! Where a runtime is probed, and what each place tells.

use crate::{
    code::{ArgumentPoint, EntryInstruction},
    elf::{FileOffset, VirtAddr},
    model::TaskType,
};

/// A function that is called once for each turn of a task, or once for each closure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Where a probe goes.
    pub offset: FileOffset,
    /// The same place as a virtual address.
    pub address: VirtAddr,
    /// The instruction there.
    pub entry: EntryInstruction,
    /// What a call of it is.
    pub role: SiteRole,
    /// Whether the function's first argument is the task's header, with the type's key in its third
    /// word. Without a header the site serves one type, and its first argument is kept as it is.
    pub has_header: bool,
    /// The task types that it serves; at least one, with folded functions several.
    pub types: Vec<ServedType>,
}

/// What a call of a site's function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteRole {
    /// A turn of a task: the call begins it, the return ends it. A return probe is placed there, so
    /// no panic and no exception may pass the function, and nothing may look at its return address.
    Turn,
    /// Something that may block begins. Its end is not looked at.
    Closure,
}

/// A task type of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedType {
    /// What the task's header refers to (Tokio: the vtable), as an address in the image; without
    /// headers, the function. It is unique in its image.
    pub key: VirtAddr,
    /// The function's first byte, even where its site's probe was moved past it.
    pub function: VirtAddr,
    /// Bytes from the header to the end of the task's own state; 0 if unknown.
    pub size: u32,
    /// Bytes from the header to the scheduler's pointer; 0 for none.
    pub scheduler_offset: u32,
    /// Bytes from the header to the task's id; 0 for none. What the task keeps begins behind it.
    pub id_offset: u32,
    /// Which scheduler, in the runtime's own word.
    pub scheduler: &'static str,
    /// Whether the scheduler belongs to one thread, so that its time between two turns is the root
    /// future's.
    pub is_local: bool,
    /// Whether the type alone says too little, so that the process's memory is asked
    /// ([`super::RuntimeInstance::name`]).
    pub ask_memory: bool,
    /// Whether it is a library's wrapper around what it was given to spawn, which may be a box:
    /// then the memory tells more too.
    pub is_wrapper: bool,
    /// What is known of it from the file.
    pub task: TaskType,
}

impl ServedType {
    /// The only type of a site whose tasks have no header ([`Site::has_header`]). Each of them may
    /// be another one by what its memory says.
    pub fn without_header(function: VirtAddr, task: TaskType) -> Self {
        Self {
            key: function,
            function,
            size: 0,
            scheduler_offset: 0,
            id_offset: 0,
            scheduler: "unknown",
            is_local: false,
            ask_memory: true,
            is_wrapper: false,
            task,
        }
    }
}

/// Functions that mark a turn of a loop, where they are known. All of them are for entry probes
/// only: a panic may pass them, and a return probe would then abort the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoopMarks {
    /// A thread that drives a root future, on a scheduler of many threads, is about to park.
    pub park: Vec<FileOffset>,
    /// Such a thread begins.
    pub block_on: Vec<FileOffset>,
    /// A task is scheduled.
    pub schedule: Vec<SchedulePoint>,
}

/// An instruction that is executed whenever a task of some scheduler is scheduled: to be polled as
/// soon as its turn comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulePoint {
    /// Where a probe goes.
    pub offset: FileOffset,
    /// The same place, and the register that holds the task's header there.
    pub at: ArgumentPoint,
    /// Which scheduler, in the runtime's own word.
    pub scheduler: &'static str,
}
