//! Everything that is shared: with user space, and between the programs.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use loopprobe_common::{
    config::{Config, LOOP_TEXT_RANGES, Range, Site, TaskLayout},
    cost::{Cost, Part},
    counters::Counter,
    health::{Driver, Longest, MAX_DRIVERS},
    histogram::Stats,
    light::{Answered, MAX_PLACES, Place},
    records::{
        EVENT_RING_BYTES, MAX_BUSY, STACK_RING_BYTES as MOST_STACK_RING_BYTES, STACK_SLOTS,
        StackSlot,
    },
    target::{MARKS, MAX_TARGETS, Own},
    thread::{self, MAX_THREADS, Owner, Thread, Waker},
    wake::{MAX_WOKEN, Woken},
    watch::{MAX_WORDS, Words},
};

// Hash maps keep memory for all that they may hold: before Linux 6.1, programs of perf events can
// use no others (`check_map_prog_compatibility` in `kernel/bpf/verifier.c`).
#[map]
static CONFIG: Array<Config> = Array::with_max_entries(MAX_TARGETS, 0);
/// The index of a target by its process, and by its canary's thread; see `target`.
#[map]
pub static TARGETS: HashMap<u32, u32> = HashMap::with_max_entries(2 * MAX_TARGETS, 0);
/// By `target::mark`: whether a key may be in `TARGETS`.
#[map]
pub static MAY_BE_TARGET: Array<[u8; MARKS]> = Array::with_max_entries(1, 0);
/// By cookie; of all targets. User space sets the size.
#[map]
pub static SITES: Array<Site> = Array::with_max_entries(1, 0);
/// Task types of sites that serve several, by `vtable_key`. User space sets the size.
#[map]
pub static VTABLES: HashMap<u64, TaskLayout> = HashMap::with_max_entries(1, 0);
/// By task type; of all targets. User space sets the size.
#[map]
pub static STATS: PerCpuArray<Stats> = PerCpuArray::with_max_entries(1, 0);
/// By task type: 1 for a blocking closure that has turned out to be a worker. User space sets the
/// size.
#[map]
pub static WORKER_TYPES: Array<u32> = Array::with_max_entries(1, 0);
/// Threads that poll tasks, by thread id as the kernel numbers it, modulo the size.
#[map]
pub static HOMES: Array<Thread> = Array::with_max_entries(thread::HOMES, 0);
/// By place in `HOMES`: whose it is. Who adds the key has the place.
#[map]
pub static OWNERS: HashMap<u32, Owner> = HashMap::with_max_entries(thread::HOMES, 0);
/// By place in `HOMES`: 1 if it is or was somebody's. All of it stays in the caches, so threads
/// that poll nothing, which are most of those that the scheduler switches, cost next to nothing.
#[map]
pub static TAKEN: Array<[u8; thread::HOMES as usize]> = Array::with_max_entries(1, 0);
/// How many places `TASKS` has.
pub const TASK_PLACES: usize = 4_096;
/// By place of a task: 1 if a thread with it is or was known. The scheduler gives tasks, and
/// reading the id of one takes longer than looking here.
#[map]
pub static TASKS: Array<[u8; TASK_PLACES]> = Array::with_max_entries(1, 0);
/// By place in `HOMES`: 1 if a thread that found it taken is in `THREADS`. The one behind them is 1
/// if any is: to find that out otherwise takes a walk through all that the map may hold.
#[map]
pub static CROWDED: Array<u32> = Array::with_max_entries(thread::HOMES + 1, 0);
/// Threads that found their place taken, by thread id as the kernel numbers it.
#[map]
pub static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(MAX_THREADS, 0);
/// A thread with nothing in it: too large for a program's stack.
#[map]
pub static EMPTY_THREAD: Array<Thread> = Array::with_max_entries(1, 0);
/// Who woke a thread that has not polled (yet) from inside a poll, by thread id.
#[map]
pub static WAKERS: LruHashMap<u32, Waker> = LruHashMap::with_max_entries(1024, 0);
/// Whether a poll is still open when its thread is at a place.
#[map]
pub static ANSWERS: HashMap<Place, Answered> = HashMap::with_max_entries(MAX_PLACES, 0);
/// By the descriptor of their `epoll_wait`.
#[map]
pub static DRIVERS: LruHashMap<Own, Driver> = LruHashMap::with_max_entries(MAX_DRIVERS, 0);
/// Tasks that have been scheduled and not polled since, by header. User space makes it small where
/// nobody wants to know.
#[map]
pub static WOKEN: HashMap<Own, Woken> = HashMap::with_max_entries(MAX_WOKEN, 0);
/// How long the polls of a task have taken together, by its id. User space makes it small where
/// nobody wants to know.
#[map]
pub static BUSY: LruHashMap<Own, u64> = LruHashMap::with_max_entries(MAX_BUSY, 0);
/// How long tasks were scheduled before they were polled, by task type. User space sets the size.
#[map]
pub static DELAYS: PerCpuArray<Stats> = PerCpuArray::with_max_entries(1, 0);
/// The longest such time, by target.
#[map]
pub static LONGEST_DELAY: PerCpuArray<[Longest; 2]> = PerCpuArray::with_max_entries(MAX_TARGETS, 0);
/// Where threads keep what they poll, where they are watched.
#[map]
static WORDS: Array<Words> = Array::with_max_entries(MAX_TARGETS * MAX_WORDS, 0);
/// Code of the images that have Tokio in them.
#[map]
static LOOP_TEXT: Array<Range> = Array::with_max_entries(MAX_TARGETS * LOOP_TEXT_RANGES, 0);
/// Records of polls and of the process: small, and none of them may be lost to stacks.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_RING_BYTES, 0);
/// With this a record wakes nobody: `BPF_RB_NO_WAKEUP`.
pub const NO_WAKEUP: u64 = 1;
/// Threads that have ended a long wait inside a poll, as the kernel numbers them: when they last
/// did.
#[map]
pub static HELPERS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(1024, 0);
/// How many samples of such threads may still be sent, by target; see `stack::BESIDE_BUDGET`.
#[map]
pub static BESIDE: Array<u32> = Array::with_max_entries(MAX_TARGETS, 0);
/// Stacks.
#[map]
pub static STACKS: RingBuf = RingBuf::with_byte_size(MOST_STACK_RING_BYTES, 0);
/// A thread's slot is its id modulo the size.
#[map]
pub static SLOTS: Array<StackSlot> = Array::with_max_entries(STACK_SLOTS, 0);
/// By `Counter`, for each target.
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_TARGETS * Counter::COUNT, 0);
/// By `Part`, for each target.
#[map]
static COSTS: PerCpuArray<Cost> = PerCpuArray::with_max_entries(MAX_TARGETS * Part::COUNT, 0);

/// Whether polls are timed by their entries alone: 0 or 1.
#[unsafe(no_mangle)]
static LIGHT: Global<u32> = Global::new(0);
/// Whether it is wanted how long tasks are scheduled before they are polled: 0 or 1.
#[unsafe(no_mangle)]
static LAG: Global<u32> = Global::new(0);
/// Whether only threads that poll no tasks are watched: 0 or 1.
#[unsafe(no_mangle)]
static ROOTS_ONLY: Global<u32> = Global::new(0);
/// A task whose polls have taken this long together is told of, and again at twice as much; 0 for
/// none.
#[unsafe(no_mangle)]
static SLOW: Global<u64> = Global::new(0);
/// The size of `STACKS`.
#[unsafe(no_mangle)]
static STACK_RING_BYTES: Global<u64> = Global::new(0);
/// Always 0, which the compiler does not know.
#[unsafe(no_mangle)]
static NEVER: Global<u32> = Global::new(0);
/// Device and inode of loopprobe's pid namespace; both 0 when that is the kernel's first one.
#[unsafe(no_mangle)]
static PID_NS_DEV: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static PID_NS_INO: Global<u64> = Global::new(0);
/// Offsets of `pid`, `tgid`, `__state` and `se.sum_exec_runtime` in `struct task_struct`, from the
/// running kernel's BTF.
#[unsafe(no_mangle)]
static TASK_PID: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_TGID: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_STATE: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_CPU_TIME: Global<u64> = Global::new(0);
/// Offset of `se.prev_sum_exec_runtime`: its CPU time when it was given its CPU last.
#[unsafe(no_mangle)]
static TASK_PICKED: Global<u64> = Global::new(0);
/// Offset of `thread.fsbase`.
#[unsafe(no_mangle)]
static TASK_FSBASE: Global<u64> = Global::new(0);
/// Offsets of `flags`, `jobctl`, the word of `in_memstall`, `memcg_nr_pages_over_high` and
/// `memcg_in_oom`; 0 where a kernel has none.
#[unsafe(no_mangle)]
static TASK_FLAGS: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_JOBCTL: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_MEMSTALL: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_OVER_HIGH: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_IN_OOM: Global<u64> = Global::new(0);
/// The way from a task to what a descriptor stands for; all 0 where the kernel does not describe
/// it: `task_struct.files`, `files_struct.fdt`, `fdtable.fd`, `file.f_inode`, `inode.i_mode`,
/// `inode.i_ino`.
#[unsafe(no_mangle)]
static FILE_PATH: Global<[u64; 6]> = Global::new([0; 6]);
/// The bit of `in_memstall` in its word.
#[unsafe(no_mangle)]
static MEMSTALL_MASK: Global<u32> = Global::new(0);

pub fn never() -> bool {
    NEVER.load() != 0
}

pub fn is_light() -> bool {
    LIGHT.load() != 0
}

pub fn is_lag() -> bool {
    LAG.load() != 0
}

pub fn is_roots_only() -> bool {
    ROOTS_ONLY.load() != 0
}

pub fn stack_ring_bytes() -> u64 {
    STACK_RING_BYTES.load()
}

pub fn slow_ns() -> u64 {
    SLOW.load()
}

pub fn pid_namespace() -> Option<(u64, u64)> {
    let ino = PID_NS_INO.load();
    (ino != 0).then(|| (PID_NS_DEV.load(), ino))
}

pub fn task_pid_offset() -> u64 {
    TASK_PID.load()
}

pub fn task_tgid_offset() -> u64 {
    TASK_TGID.load()
}

pub fn task_state_offset() -> u64 {
    TASK_STATE.load()
}

pub fn task_cpu_time_offset() -> u64 {
    TASK_CPU_TIME.load()
}

pub fn task_picked_offset() -> u64 {
    TASK_PICKED.load()
}

pub fn task_fsbase_offset() -> u64 {
    TASK_FSBASE.load()
}

/// What is wanted of a target.
#[inline(always)]
pub fn config(target: u32) -> Option<&'static Config> {
    CONFIG.get(target)
}

/// Whether a target's session is over at this time: then nothing changes any more.
#[inline(always)]
pub fn is_over(target: u32, now: u64) -> bool {
    config(target).is_some_and(|config| config.is_over(now))
}

/// Whether stacks of a target are wanted.
#[inline(always)]
pub fn takes_stacks(target: u32) -> bool {
    config(target).is_some_and(|config| config.stacks != 0)
}

/// Where a target's threads keep what they poll of its image `index`.
#[inline(always)]
pub fn words(target: u32, index: u32) -> Option<*mut Words> {
    WORDS.get_ptr_mut(target * MAX_WORDS + index)
}

/// The target's range `index` of code with Tokio in it.
#[inline(always)]
pub fn loop_text(target: u32, index: u32) -> Option<&'static Range> {
    LOOP_TEXT.get(target * LOOP_TEXT_RANGES + index)
}

pub fn task_flags_offset() -> u64 {
    TASK_FLAGS.load()
}

pub fn task_jobctl_offset() -> u64 {
    TASK_JOBCTL.load()
}

pub fn task_memstall_offset() -> u64 {
    TASK_MEMSTALL.load()
}

pub fn task_over_high_offset() -> u64 {
    TASK_OVER_HIGH.load()
}

pub fn task_in_oom_offset() -> u64 {
    TASK_IN_OOM.load()
}

pub fn file_path() -> [u64; 6] {
    FILE_PATH.load()
}

pub fn task_memstall_mask() -> u32 {
    MEMSTALL_MASK.load()
}

/// This CPU's account of a part of what a target costs.
#[inline(always)]
pub fn cost(target: u32, part: Part) -> Option<*mut Cost> {
    COSTS.get_ptr_mut(target * Part::COUNT + part as u32)
}

/// Counts one.
#[inline(always)]
pub fn count(target: u32, counter: Counter) {
    if let Some(n) = COUNTERS.get_ptr_mut(target * Counter::COUNT + counter as u32) {
        // SAFETY: the pointer is to this CPU's own value, and lives as long as the map.
        unsafe { *n += 1 }
    }
}
