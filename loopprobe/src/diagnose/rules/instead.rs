//! Advice for situations that the advice of their cause does not fit.

use super::fits::{
    feeds_child, is_below_logger, is_in_guest, is_nap_of_c, is_no_output, is_start, is_stds_sleep,
    is_thread_start, is_tokios_park, is_wait_for_child, may_have_run_out, may_wait_for_others,
};
use crate::{
    diagnose::{Moment, Object, descriptors::is_misused, operation::Operation, syscall::Waits},
    model::Cause,
};

/// One row of the table: what to do instead of what the cause's own row says.
#[derive(Clone, Copy, Debug)]
pub struct Instead {
    /// The cause.
    pub cause: Cause,
    /// When, for the documentation.
    pub when: &'static str,
    /// Whether it is so.
    pub applies: fn(&Moment<'_>) -> bool,
    /// What to do, in one line.
    pub advice: &'static str,
}

const CALLBACK: &str = "an interpreter runs here (Python, JavaScript), and the task waits for its code: have that code do less at a time or use its own asynchronous calls, or call it in tokio::task::spawn_blocking or from a thread of its own";
const MAY_BE_JAVASCRIPT: &str = "without a name, in a file that holds V8";
const PERHAPS_CALLBACK: &str = "if JavaScript runs here, make the callback shorter or give its work to a worker; if it is Rust, move the computation to tokio::task::spawn_blocking";
const IN_GUEST: &str = "below code that an interpreter runs (CPython, V8)";

const WITH_A_LIMIT: &str = "with a time limit, and no thread was seen to end it";
const RAN_OUT: &str = "this wait has a time limit, and no thread was seen to end it before: if only time was to pass, use tokio::time::sleep(..).await, else what tokio::sync has for it inside tokio::time::timeout";
const A_THREAD_IS_STARTED: &str = "a thread is started";
const KEEP_THREADS: &str = "starting threads takes the time: start fewer of them, and keep them for what comes later (a pool, tokio::task::spawn_blocking)";

/// Of one cause the first that applies wins. `docs/causes.md` shows this table; a test keeps them
/// equal.
pub const INSTEAD: &[Instead] = &[
    Instead {
        cause: Cause::Network,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::Network,
        when: "the socket is in blocking mode, and an epoll instance of the process watches it",
        applies: |moment| {
            moment
                .objects()
                .any(|object| matches!(object, Object::Socket(socket) if is_misused(socket)))
        },
        advice: "the socket is in blocking mode although an event loop watches it: call set_nonblocking(true) on it before it is given to tokio::net (from_std)",
    },
    Instead {
        cause: Cause::Network,
        when: "the socket is in non-blocking mode already",
        applies: |moment| {
            moment.objects().any(
                |object| matches!(object, Object::Socket(socket) if socket.blocking == Some(false)),
            ) && !matches!(moment.waits(), Some(Waits::Poll | Waits::Events))
        },
        advice: "the socket is in non-blocking mode already, so this is the kernel's own work on it: send or receive less at a time, or look at what else keeps the kernel busy",
    },
    Instead {
        cause: Cause::Child,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::Fsync,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::Dns,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::Child,
        when: "the process is being started (fork, vfork, clone, or the wait for exec)",
        applies: is_start,
        advice: "starting a process blocks, by tokio::process too: with pre_exec, uid or gid the whole process is forked, which takes long if it has much memory; do without them, start it in tokio::task::spawn_blocking, or from a small helper process",
    },
    Instead {
        cause: Cause::Child,
        when: "it writes to a pipe that a child reads",
        applies: feeds_child,
        advice: "the child does not read as fast as it is written to: write to it through tokio::process (ChildStdin), or in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::Child,
        when: "nothing tells whether the process is being started or waited for (in a stripped file)",
        applies: |moment| !is_wait_for_child(moment),
        advice: "a child process is started here, or waited for: a wait is awaited with tokio::process::Command; the start blocks by that too, and belongs into tokio::task::spawn_blocking if it is slow",
    },
    Instead {
        cause: Cause::Database,
        when: "it waits for the disk",
        applies: |moment| moment.waits() == Some(Waits::Sync),
        advice: "each commit waits until it is on the disk: put more into one transaction, and call the database in tokio::task::spawn_blocking or from a thread of its own",
    },
    Instead {
        cause: Cause::Database,
        when: "it is not in a nap or a wait for somebody else",
        applies: |moment| !may_wait_for_others(moment),
        advice: "call the database in tokio::task::spawn_blocking or from a thread of its own",
    },
    Instead {
        cause: Cause::Pipe,
        when: "a named pipe is opened",
        applies: |moment| matches!(moment.waits(), Some(Waits::Path(_))),
        advice: "opening a named pipe waits until somebody opens its other end: open it with tokio::net::unix::pipe::OpenOptions, which does not wait, or in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::Pipe,
        when: "it reads",
        applies: |moment| {
            let reads = moment.syscall.is_some_and(|call| call.reads());
            moment.objects().any(|object| match object {
                Object::Pipe(pipe) => pipe.reads,
                Object::Terminal { .. } => reads,
                _ => false,
            })
        },
        advice: "nothing came from the other end: read with tokio::net::unix::pipe or tokio::process, or in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::Pipe,
        when: "it writes to another descriptor than standard output and error, and not a log",
        applies: |moment| moment.objects().all(is_no_output) && !is_below_logger(moment),
        advice: "whoever reads the other end does not keep up: make the reader drain it, and write with tokio::net::unix::pipe or, to a terminal, tokio::io::unix::AsyncFd, or in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::FileIo,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::FileIo,
        when: "below a logger, or print and its relatives",
        applies: |moment| moment.operation == Some(Operation::Logger),
        advice: "write logs from a thread of their own (tracing_appender::non_blocking and the like), or fewer of them",
    },
    Instead {
        cause: Cause::Sleep,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::Sleep,
        when: "a library of C naps",
        applies: |moment| is_nap_of_c(moment),
        advice: "a C library naps here until something else happens: find what it waits for, or call it in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::Sleep,
        when: "nothing tells that std::thread::sleep is called",
        applies: |moment| {
            !moment.syscall.is_some_and(|call| call.is_empty_poll())
                && !is_stds_sleep(moment.frames)
        },
        advice: "use tokio::time::sleep(..).await instead of std::thread::sleep or the C library's or, if a library naps here until something else happens, call that in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::Sleep,
        when: "in poll, ppoll, select or pselect without any descriptor",
        applies: |moment| moment.syscall.is_some_and(|call| call.is_empty_poll()),
        advice: "use tokio::time::sleep(..).await instead of a poll or select that waits for nothing but time",
    },
    Instead {
        cause: Cause::NestedBlockOn,
        when: "in epoll_wait, and no block_on is known around it",
        applies: |moment| {
            moment.waits() == Some(Waits::Epoll) && moment.operation != Some(Operation::Loop)
        },
        advice: "an epoll instance is waited for inside a poll: have Tokio wait for its descriptors (tokio::io::unix::AsyncFd), or turn that event loop on a thread of its own",
    },
    Instead {
        cause: Cause::NestedBlockOn,
        when: "in a futex below Tokio's code",
        applies: is_tokios_park,
        advice: "await the future instead of block_on, and what blocking_recv, blocking_lock and the like wait for, or run it in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::Channel,
        when: "below a logger",
        applies: is_below_logger,
        advice: "the logger's queue is full, since its thread does not get rid of the lines: see what reads the program's output, log less, or let the logger drop lines (tracing_appender's lossy) or keep more of them",
    },
    Instead {
        cause: Cause::Channel,
        when: WITH_A_LIMIT,
        applies: may_have_run_out,
        advice: RAN_OUT,
    },
    Instead {
        cause: Cause::Spin,
        when: "it keeps its CPU meanwhile",
        applies: |moment| moment.spins,
        advice: "it asks again and again whether another thread is done, and keeps its CPU meanwhile: await a tokio::sync::Notify or oneshot instead, or wait in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::Lock,
        when: "the lock is the GIL",
        applies: |moment| moment.operation == Some(Operation::Lock("GIL")),
        advice: "another thread runs Python: take the GIL in tokio::task::spawn_blocking, and let go of it around long calls (Python::detach, allow_threads)",
    },
    Instead {
        cause: Cause::Lock,
        when: "it is a cell that another thread fills",
        applies: |moment| moment.operation == Some(Operation::Lock("once cell")),
        advice: "another thread makes the value that is wanted here: have it made before tasks need it, or keep it in a tokio::sync::OnceCell and await it",
    },
    Instead {
        cause: Cause::Lock,
        when: "the lock is that of Tokio's timers",
        applies: |moment| super::lock::owner(moment.frames) == Some("Tokio's timers"),
        advice: "another worker holds the lock of Tokio's timers while it fires many of them: have fewer timers at a time, or spread their deadlines",
    },
    Instead {
        cause: Cause::Lock,
        when: "the lock is standard output's or error's",
        applies: |moment| super::lock::owner(moment.frames) == Some("standard output or error"),
        advice: "another thread holds the lock, as it does while it writes: see what reads the program's output, and write logs from a thread of their own (tracing_appender::non_blocking and the like)",
    },
    Instead {
        cause: Cause::Lock,
        when: "the lock is the allocator's",
        applies: |moment| super::lock::owner(moment.frames) == Some("the allocator"),
        advice: "threads wait for each other inside the allocator: allocate and free less at once, or use an allocator with caches for each thread (jemalloc, mimalloc)",
    },
    Instead {
        cause: Cause::Lock,
        when: "a lock on a file (flock, fcntl)",
        applies: |moment| moment.waits() == Some(Waits::FileLock),
        advice: "somebody else has locked the file: wait in tokio::task::spawn_blocking, or try without waiting and come back later",
    },
    Instead {
        cause: Cause::Lock,
        when: "a stripped file does not tell whose lock it is",
        applies: |moment| {
            matches!(moment.waits(), Some(Waits::Futex | Waits::Yield))
                && super::lock::is_anybodys(moment.frames)
        },
        advice: "somebody holds a lock, the program's own or a library's: symbols (--debug-file) tell whose; if it is the program's own, hold it for less time and never across .await",
    },
    Instead {
        cause: Cause::ThreadWait,
        when: "for rayon's pool",
        applies: |moment| moment.operation == Some(Operation::ThreadWait("rayon")),
        advice: "start it with rayon::spawn and await the result through tokio::sync::oneshot, or call it in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::ThreadWait,
        when: "for the thread of reqwest::blocking",
        applies: |moment| moment.operation == Some(Operation::ThreadWait("reqwest's own thread")),
        advice: "use reqwest's async client instead of reqwest::blocking",
    },
    Instead {
        cause: Cause::ThreadWait,
        when: WITH_A_LIMIT,
        applies: may_have_run_out,
        advice: RAN_OUT,
    },
    Instead {
        cause: Cause::ThreadWait,
        when: "nothing tells what for",
        applies: |moment| moment.operation.is_none(),
        advice: "another thread had to do something first, and nothing tells what: to let go of a lock, to signal a condition variable, to answer; symbols (--debug-file) may; wait with what tokio::sync has for it, or in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::Preempted,
        when: "mostly by other threads of the process",
        applies: |moment| moment.preempted_by_itself,
        advice: "other threads of this process had the CPU, which is not this code's fault: have fewer of them at work at a time (worker threads, rayon, the blocking pool), or give the process more CPUs",
    },
    Instead {
        cause: Cause::Unknown,
        when: A_THREAD_IS_STARTED,
        applies: is_thread_start,
        advice: KEEP_THREADS,
    },
    Instead {
        cause: Cause::Unknown,
        when: "blocked in a system call",
        applies: |moment| moment.is_blocked() && moment.syscall.is_some(),
        advice: "the thread waits in the system call that the evidence names: call it in tokio::task::spawn_blocking or, if it is about a descriptor, await that with tokio::io::unix::AsyncFd",
    },
    Instead {
        cause: Cause::Cpu,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::Cpu,
        when: MAY_BE_JAVASCRIPT,
        applies: |moment| moment.may_be_javascript,
        advice: PERHAPS_CALLBACK,
    },
    Instead {
        cause: Cause::PageFault,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::PageFault,
        when: MAY_BE_JAVASCRIPT,
        applies: |moment| moment.may_be_javascript,
        advice: PERHAPS_CALLBACK,
    },
    Instead {
        cause: Cause::PageFault,
        when: "most samples are in memcpy or memmove",
        applies: |moment| moment.copies,
        advice: "it copies much memory at once, into memory that the process has not used yet: share it (Arc, bytes::Bytes) instead of cloning it, or move the work to tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::MemoryMap,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::Drop,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::Cpu,
        when: "below a logger",
        applies: is_below_logger,
        advice: "making log lines takes the time: log less here, or let fewer levels through",
    },
    Instead {
        cause: Cause::Cpu,
        when: "most samples are in memcpy or memmove",
        applies: |moment| moment.copies,
        advice: "it copies much memory at once: share it (Arc, bytes::Bytes) instead of cloning it, or move the work to tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::Cpu,
        when: A_THREAD_IS_STARTED,
        applies: is_thread_start,
        advice: KEEP_THREADS,
    },
    Instead {
        cause: Cause::Cpu,
        when: "in a system call",
        applies: |moment| moment.syscall.is_some(),
        advice: "the kernel works here, in the system call that the evidence names: ask it for less at once, or call it in tokio::task::spawn_blocking",
    },
];

/// The advice for a cause in a situation.
pub(crate) fn advice(cause: Cause, moment: &Moment<'_>) -> &'static str {
    let special = INSTEAD
        .iter()
        .find(|row| row.cause == cause && (row.applies)(moment));
    special.map_or(cause.rule().advice, |row| row.advice)
}
