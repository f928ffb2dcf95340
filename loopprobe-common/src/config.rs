//! What user space tells the kernel side of each target.

/// Settings of a target that may change while its session runs; an element of the map `CONFIG`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Polls at least this long get a record.
    pub threshold_ns: u64,
    /// How much of such a poll's measured duration is the probes' own, and is taken off.
    pub dead_ns: u64,
    /// Off-CPU stretches inside a poll at least this long get a stack.
    pub min_block_ns: u64,
    /// A poll must have run for this long before a sample of it is taken.
    pub sample_after_ns: u64,
    /// Whether stacks are taken: 0 or 1.
    pub stacks: u64,
    /// Whether threads of the target without a known poll are sampled too, for polls that began
    /// before the attach: 0 or 1.
    pub scan: u64,
    /// Whether headers of tasks are read only in polls that turn out to take long (see
    /// [`crate::thread::OpenPoll::UNREAD`]): 0 or
    /// 1. Only right if every poll of `threshold_ns` is sampled or leaves its CPU.
    pub lazy_headers: u64,
    /// When the session began: polls that begin before are followed, for others may nest in them,
    /// but neither counted nor sent. `u64::MAX` before it has begun.
    pub start_ns: u64,
    /// When the session is over; 0 while that is not known. From then on the programs change
    /// nothing any more, so that what was open at this moment can still be read later.
    pub end_ns: u64,
    /// How often user space has looked at what there is: longest values are kept by look.
    pub look: u64,
    /// The header of the one task whose polls are counted apart; 0 for none.
    pub watched: u64,
    /// When a task was scheduled before this, its wake is not known: its poll may have gone unseen.
    pub wakes_from_ns: u64,
}

impl Config {
    /// Whether the session is over at this time.
    #[inline(always)]
    pub fn is_over(&self, now_ns: u64) -> bool {
        self.end_ns != 0 && now_ns >= self.end_ns
    }

    /// Whether the session has begun at this time.
    #[inline(always)]
    pub fn has_begun(&self, now_ns: u64) -> bool {
        now_ns >= self.start_ns
    }
}

/// One poll site; element `cookie` of the map `SITES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The vtable of the site's first task type, as [`relative`] to the probe.
    pub vtable: u64,
    /// That type.
    pub task: TaskLayout,
    /// What follows the probed instruction.
    pub first: FirstInstruction,
}

/// Where a thread is when the instruction under a probe, and nothing behind it, has been executed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstInstruction {
    /// The next instruction, in bytes from the probe. Two of a conditional jump; else both are the
    /// same. They may be negative: they wrap around.
    pub next: [u64; 2],
    /// How far it lowers the stack pointer, in bytes.
    pub pushed: u64,
}

/// A vtable's address as its distance from the probe at whose site it was seen. It is the same
/// wherever the image is loaded, so it is known before a program starts, and when the process
/// executes it again.
#[inline(always)]
pub const fn relative(vtable: u64, probe: u64) -> u64 {
    vtable.wrapping_sub(probe)
}

/// No image is larger than 512 GiB.
const DISTANCE_BITS: u32 = 40;

/// The site of a [`vtable_key`].
#[inline(always)]
pub const fn site_of_key(key: u64) -> u64 {
    key >> DISTANCE_BITS
}

/// The same key for a site with another number.
#[inline(always)]
pub const fn with_site(key: u64, site: u64) -> u64 {
    vtable_key(site, key)
}

/// The key of the map `VTABLES`: a vtable of the site `cookie`.
#[inline(always)]
pub const fn vtable_key(cookie: u64, relative: u64) -> u64 {
    cookie << DISTANCE_BITS | (relative & ((1 << DISTANCE_BITS) - 1))
}

/// What the kernel side needs to know of a task type.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskLayout {
    /// Index into the map `STATS`.
    pub index: u32,
    /// Bytes from the header to the task's id; 0 for none.
    pub id_offset: u32,
    /// Bytes from the header to the scheduler's pointer; 0 for none.
    pub scheduler_offset: u32,
    /// Bits of `FLAG_*`.
    pub flags: u32,
}

impl TaskLayout {
    /// The scheduler belongs to one thread (a current_thread runtime or a `LocalSet`): the time
    /// between two polls that the thread does not spend parked is the root future's.
    pub const FLAG_LOCAL: u32 = 1;
    /// The type may be no more than a box: the future in it is told by its memory.
    pub const FLAG_BOXED: u32 = 2;
    /// The site serves other types too, so the vtable must be read to know which one a task has.
    pub const FLAG_SHARED: u32 = 4;
    /// The tasks have no header: the site serves this type only, and what lies at its function's
    /// first argument says nothing.
    pub const FLAG_NO_HEADER: u32 = 8;
}

/// An address range of the process; an element of the map `LOOP_TEXT`, which has
/// [`LOOP_TEXT_RANGES`] for each target.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub start: u64,
    /// The first address behind it.
    pub end: u64,
}

/// Index of a task type that is in no map.
pub const UNKNOWN_TYPE: u32 = u32::MAX;

/// Ranges of code that may call `epoll_wait` for the runtime: the text of each image with Tokio in
/// it. A process rarely has more than one such image.
pub const LOOP_TEXT_RANGES: u32 = 8;

crate::pod!(Config, Site, FirstInstruction, TaskLayout, Range);
