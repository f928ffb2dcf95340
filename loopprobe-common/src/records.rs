//! What the kernel side sends through the ring buffers `EVENTS` and, if it is a stack, `STACKS`.
//! Each record begins with its kind, and with the target that it is of.

use crate::{
    light::{Place, Question},
    thread::OpenPoll,
    wake::Woken,
};

/// Kinds of records.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A [`PollRecord`] of a task.
    Poll = 1,
    /// A [`PollRecord`] of a root future.
    Root = 2,
    /// A [`StackRecord`] of a thread that was off its CPU.
    OffCpu = 3,
    /// A [`StackRecord`] of a thread on its CPU.
    Sample = 4,
    /// A [`ProcessRecord`]: the process executed another program.
    Exec = 5,
    /// As [`Kind::Exec`], but another thread than the process's first one asked for it. Probes
    /// limited to the process do not follow it then.
    ExecByThread = 6,
    /// A [`StackRecord`] of a thread on its CPU without a known poll.
    Scan = 7,
    /// A [`StackRecord`] of a thread that may have left its poll: its place is to be answered.
    Question = 8,
    /// A [`PollRecord`] of a task that ended here or, if its question's answer is so, then. It has
    /// not been counted as long.
    Unsettled = 9,
    /// A [`TakerRecord`]: who had the CPU that a poll's thread waited for.
    Taker = 10,
    /// A [`StackRecord`] of a thread that ends a long wait inside another thread's poll: its `tid`
    /// and `poll_ns` are that poll's, its `woken_ns` says which wait, its `waker` who the stack is
    /// of.
    Waker = 11,
    /// A [`StackRecord`] with a further piece of a stack: `len` bytes from `registers.sp` on. The
    /// question that it belongs to follows, with the same `tid` and `start_ns`. Nothing else in it
    /// means anything.
    Piece = 12,
    /// A [`DriverRecord`].
    Driver = 13,
    /// A [`StackRecord`] of a thread on its CPU that is in no poll, but has ended a long wait
    /// inside one before.
    Beside = 14,
    /// A [`crate::watch::WatchRecord`].
    Watched = 15,
    /// A [`DelayRecord`].
    Delay = 16,
    /// A [`BusyRecord`].
    Busy = 17,
}

/// A poll that has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollRecord {
    /// [`Kind::Poll`], [`Kind::Root`] or [`Kind::Unsettled`].
    pub kind: u16,
    /// Which target it is of: see [`crate::target`].
    pub target: u16,
    /// The thread, in loopprobe's pid namespace.
    pub tid: u32,
    /// When it ended.
    pub end_ns: u64,
    /// The poll; its `blocked_ns` and `runnable_ns` are those of this poll.
    pub poll: OpenPoll,
    /// Of an unsettled one, and of a root's that is one only if a poll has ended: what had not been
    /// answered. Its `blocked_ns` and `runnable_ns` are those of this poll until then.
    pub question: Question,
}

/// Registers of user code, as far as an unwinder needs them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub bp: u64,
    /// rax, rbx, rcx, rdx, rsi, rdi, r8 to r15; on aarch64 x30, x19 to x28, x0 to x2.
    pub general: [u64; 14],
}

/// The registers of a thread, as the program `task_registers` writes them. They are right only
/// while the thread is off its CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadRegisters {
    /// The thread, as the kernel numbers it.
    pub tid: u32,
    /// Keeps the layout free of padding.
    pub reserved: u32,
    /// The number of the system call, -1 outside any.
    pub syscall: i64,
    /// Its arguments.
    pub args: [u64; 6],
    /// The registers of the user code.
    pub registers: Registers,
}

/// What the kernel says of a thread that goes off its CPU, beside its system call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// Its state (`__state` of `struct task_struct`); 0 if it goes on to run.
    pub state: u32,
    /// Its flags (`PF_*`).
    pub flags: u32,
    /// The lower half of its `jobctl`.
    pub jobctl: u32,
    /// Bits of [`Reason::STALLED`] and the like.
    pub pressure: u32,
}

impl Reason {
    /// A state that could not be read in time.
    pub const UNKNOWN: u32 = 1 << 31;
    /// It waits for memory, as pressure stall information counts it.
    pub const STALLED: u32 = 1;
    /// Its control group has more memory than `memory.high`.
    pub const OVER_HIGH: u32 = 2;
    /// Its control group has all the memory that it may have.
    pub const IN_OOM: u32 = 4;
}

/// Who had the CPU while a thread waited for it inside a poll.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakerRecord {
    /// [`Kind::Taker`].
    pub kind: u16,
    /// Which target it is of: see [`crate::target`].
    pub target: u16,
    /// The thread that waited, in loopprobe's pid namespace.
    pub tid: u32,
    /// When the poll began.
    pub poll_ns: u64,
    /// How long it waited.
    pub waited_ns: u64,
    /// How long of that the one who had the CPU at the end had it, at least.
    pub had_ns: u64,
    /// The process that had the CPU at the end of the wait, as the kernel numbers it.
    pub process: u32,
    /// Its thread.
    pub thread: u32,
    /// The thread's name, zero-terminated.
    pub name: [u8; 16],
}

/// A stack inside an open poll; `len` bytes of stack follow: from the stack pointer upwards or,
/// where the poll's entry lies further away than [`STACK_BYTES`], [`STACK_HEAD`] bytes from the
/// stack pointer and the rest as far as the entry's return address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackRecord {
    /// [`Kind::OffCpu`], [`Kind::Sample`], [`Kind::Scan`] or [`Kind::Question`].
    pub kind: u16,
    /// Which target it is of: see [`crate::target`].
    pub target: u16,
    /// The thread, in loopprobe's pid namespace.
    pub tid: u32,
    /// When the poll began: with `tid`, which poll this belongs to.
    pub poll_ns: u64,
    /// When the thread went off its CPU, or the time of the sample.
    pub start_ns: u64,
    /// When it was made ready to run; 0 if it was ready all the time or for a sample.
    pub woken_ns: u64,
    /// When it was back on a CPU; 0 while it is still off, or for a sample.
    pub end_ns: u64,
    /// The stack pointer at the poll's entry; 0 where that is not known.
    pub entry_sp: u64,
    /// The task's number as far as it is known by then; 0 of a root future.
    pub task_id: u64,
    /// The registers of the user code.
    pub registers: Registers,
    /// The number of the system call, -1 outside any. A sample has one only if it found the thread
    /// in the kernel.
    pub syscall: i64,
    /// Its arguments.
    pub args: [u64; 6],
    /// Blocked time of the same poll just before, in waits too short to be sent, for which this
    /// stack stands too.
    pub unsent_ns: u64,
    /// How long the poll had been blocked in all at `start_ns`.
    pub blocked_ns: u64,
    /// How long it had been ready without a CPU in all at `start_ns`.
    pub runnable_ns: u64,
    /// Of a thread that went off its CPU: why, beside its system call.
    pub reason: Reason,
    /// Of [`Kind::Waker`]: the thread that the stack is of, in loopprobe's pid namespace.
    pub waker: u32,
    /// Of [`Kind::Waker`]: that thread's name, as the kernel keeps it (`TASK_COMM_LEN`).
    pub comm: [u8; 16],
    /// Of [`Kind::Waker`]: when that thread's last wait in an event loop of its own began, and when
    /// it ended; 0 if it has none that is known.
    pub driver_from_ns: u64,
    /// See there.
    pub driver_to_ns: u64,
    /// Of a thread that went off its CPU: the mode of the file that its system call's first
    /// argument stood for, as `stat` gives it; 0 if it stood for none.
    pub file_mode: u32,
    /// The inode of that file.
    pub file_inode: u64,
    /// Of a question: the place.
    pub place: Place,
    /// How many bytes of stack follow.
    pub len: u32,
    /// Of a sample: 1 if it found the thread in the kernel.
    pub in_kernel: u32,
    /// The thread's flags: bits of `Thread::WORKER` and the like.
    pub flags: u32,
    /// How many polls were open on the thread.
    pub depth: u32,
}

/// How many bytes of a stack are kept at most. Measured: 8 KiB covers 87 % of the stacks in polls,
/// 32 KiB all but those of programs whose async functions nest deep (rolldown's take 36 to 96).
pub const STACK_BYTES: usize = 128 * 1024;

/// How many of them are the innermost ones when not all fit. What lies between is lost; large
/// frames there are no loss.
pub const STACK_HEAD: usize = 112 * 1024;

/// How many bytes are read at a time of a stack of which it is not known where it ends, and how
/// many in all where it is no poll's or root future's own: a waker's, say.
pub const STACK_PIECE_BYTES: usize = 32 * 1024;

/// The size of the ring buffer `STACKS` at most; user space says how large it is in the global of
/// the same name. Where it has more than a quarter of that in it, user space is woken; where more
/// than three quarters, only polls that have sent none yet send a stack.
pub const STACK_RING_BYTES: u32 = 8 << 20;

/// The size of the ring buffer `EVENTS` at most.
pub const EVENT_RING_BYTES: u32 = 4 << 20;

/// How many further pieces of [`STACK_BYTES`] a question's stack may have, behind its first
/// [`STACK_HEAD`] bytes: with nothing left out, it can be walked to the end.
pub const QUESTION_PIECES: u64 = 1;

/// How deep a question's stack may be to be copied without gaps.
pub const QUESTION_BYTES: u64 = STACK_HEAD as u64 + QUESTION_PIECES * STACK_BYTES as u64;

/// How many threads can have a stack kept at a time.
pub const STACK_SLOTS: u32 = 128;

/// A thread's slot; an element of the map `SLOTS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StackSlot {
    /// What is in it; `kind` is 0 when empty.
    pub record: StackRecord,
    /// The stack.
    pub bytes: [u8; STACK_BYTES],
}

/// For a long time no thread was in a driver's `epoll_wait`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverRecord {
    /// [`Kind::Driver`].
    pub kind: u16,
    /// Which target it is of: see [`crate::target`].
    pub target: u16,
    /// The thread that called before, in loopprobe's pid namespace.
    pub tid: u32,
    /// When that one was back.
    pub left_ns: u64,
    /// When the next call came.
    pub end_ns: u64,
    /// The descriptor.
    pub descriptor: u32,
    /// The thread of the next call.
    pub next_tid: u32,
}

/// A driver that nobody turned, or a task that waited to be polled, for a shorter time than this
/// gets no record, whatever the threshold is.
pub const LEAST_LAG_NS: u64 = 1_000_000;

/// A task was polled long after it had been scheduled.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DelayRecord {
    /// [`Kind::Delay`].
    pub kind: u16,
    /// Which target it is of: see [`crate::target`].
    pub target: u16,
    /// The thread that polls it, in loopprobe's pid namespace.
    pub tid: u32,
    /// When the poll began.
    pub start_ns: u64,
    /// When, and by whom, it had been scheduled.
    pub woken: Woken,
    /// Index of the task's type, or [`crate::config::UNKNOWN_TYPE`].
    pub task_type: u32,
    /// Keeps the layout free of padding.
    pub reserved: u32,
}

/// The polls of a task have taken long together.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusyRecord {
    /// [`Kind::Busy`].
    pub kind: u16,
    /// Which target it is of: see [`crate::target`].
    pub target: u16,
    /// Index of its type.
    pub task_type: u32,
    /// The task's id.
    pub task_id: u64,
    /// How long, by the end of the last one.
    pub busy_ns: u64,
    /// When that was.
    pub time_ns: u64,
}

/// How many tasks are added up; those that were polled longest ago give way.
pub const MAX_BUSY: u32 = 1 << 16;

/// Something that happened to the process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// [`Kind::Exec`] or [`Kind::ExecByThread`].
    pub kind: u16,
    /// Which target it is of: see [`crate::target`].
    pub target: u16,
    /// The thread, in loopprobe's pid namespace.
    pub tid: u32,
    /// When.
    pub time_ns: u64,
}

crate::pod!(
    PollRecord,
    Registers,
    ThreadRegisters,
    Reason,
    StackRecord,
    StackSlot,
    TakerRecord,
    DriverRecord,
    DelayRecord,
    BusyRecord,
    ProcessRecord
);
