//! Advice for situations that the advice of their cause does not fit.

use crate::{
    diagnose::{
        Moment, Object, blame::blamed, descriptors::is_misused, moment::names,
        operation::Operation, syscall::Waits,
    },
    model::{Cause, Role},
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

const CALLBACK: &str = "an interpreter runs here (Python, JavaScript), and the task waits for its code: call it in tokio::task::spawn_blocking or from a thread of its own, or make the callback shorter";
const IN_GUEST: &str = "below code that an interpreter runs (CPython, V8)";

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
        when: "the process is being started (fork, vfork, clone, or the wait for exec)",
        applies: is_start,
        advice: "starting a process blocks, by tokio::process too: with pre_exec, uid or gid the whole process is forked, which takes long if it has much memory; do without them, start it in tokio::task::spawn_blocking, or from a small helper process",
    },
    Instead {
        cause: Cause::Child,
        when: "nothing tells whether the process is being started or waited for (in a stripped file)",
        applies: |moment| !is_wait_for_child(moment),
        advice: "a child process is started here, or waited for: a wait is awaited with tokio::process::Command; the start blocks by that too, and belongs into tokio::task::spawn_blocking if it is slow",
    },
    Instead {
        cause: Cause::Pipe,
        when: "it reads",
        applies: |moment| {
            moment
                .objects()
                .any(|object| matches!(object, Object::Pipe(pipe) if pipe.reads))
        },
        advice: "nothing came from the other end: read with tokio::net::unix::pipe or tokio::process, or in tokio::task::spawn_blocking",
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
        when: "a library of C naps, such as below usleep",
        applies: |moment| is_nap_of_c(moment),
        advice: "a C library naps here until something else happens: find what it waits for, or call it in tokio::task::spawn_blocking",
    },
    Instead {
        cause: Cause::Sleep,
        when: "in poll, ppoll, select or pselect without any descriptor",
        applies: |moment| moment.syscall.is_some_and(|call| call.is_empty_poll()),
        advice: "use tokio::time::sleep(..).await instead of a poll or select that waits for nothing but time",
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
        when: "the lock is that of Tokio's timers",
        applies: |moment| super::lock::owner(moment.frames) == Some("Tokio's timers"),
        advice: "another worker holds the lock of Tokio's timers while it fires many of them: have fewer timers at a time, or spread their deadlines",
    },
    Instead {
        cause: Cause::Lock,
        when: "the lock is standard output's or error's",
        applies: |moment| super::lock::owner(moment.frames) == Some("standard output or error"),
        advice: "another thread holds the lock while it writes: see what reads the program's output, and write logs from a thread of their own (tracing_appender::non_blocking and the like)",
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
        cause: Cause::Cpu,
        when: IN_GUEST,
        applies: is_in_guest,
        advice: CALLBACK,
    },
    Instead {
        cause: Cause::Cpu,
        when: "most samples are in memcpy or memmove",
        applies: |moment| copies(moment),
        advice: "it copies much memory at once: share it (Arc, bytes::Bytes) instead of cloning it, or move the work to tokio::task::spawn_blocking",
    },
];

/// The standard library receives from a socket only while it starts a process: what became of
/// `exec`. What it computes is the start's too.
fn is_start(moment: &Moment<'_>) -> bool {
    let is_starts =
        |name: &str| name.contains("process::Command::spawn") || name.contains("posix_spawn");
    let is_childs = moment.operation == Some(Operation::Child);
    matches!(moment.syscall.map(|call| call.number), Some(56..=58 | 435))
        || names(moment.frames).any(is_starts)
        || is_childs && (moment.is_on_cpu() || moment.waits() == Some(Waits::Socket))
}

/// By the system call, by a pipe that a child writes to, or by a name.
fn is_wait_for_child(moment: &Moment<'_>) -> bool {
    let is_pipe_of_child = |object: &Object| matches!(object, Object::Pipe(pipe) if pipe.child);
    matches!(moment.waits(), Some(Waits::Child | Waits::Poll))
        || names(moment.frames).any(|name| name.contains("process::"))
        || moment.operation != Some(Operation::Child) && moment.objects().any(is_pipe_of_child)
}

/// Whether the call that is to blame has entered an interpreter.
fn is_in_guest(moment: &Moment<'_>) -> bool {
    let inside = blamed(moment.frames).unwrap_or(moment.frames.len());
    let mut inside = moment.frames[..inside].iter();
    inside.any(|frame| frame.role.guest().is_some())
}

/// A nap that neither `std::thread::sleep` nor the program itself takes: a function of C stands
/// between.
fn is_nap_of_c(moment: &Moment<'_>) -> bool {
    let deep = moment.frames.iter().take_while(|frame| {
        matches!(frame.role, Role::C | Role::Dependency) && frame.function.is_some()
    });
    let mut names = deep.filter_map(|frame| frame.function.as_deref());
    names.any(|name| {
        !name.contains("::")
            && (matches!(name, "usleep" | "sleep" | "thrd_sleep")
                || !crate::symbolize::is_c_name(name))
    })
}

/// Whether the innermost function copies memory.
pub(crate) fn copies(moment: &Moment<'_>) -> bool {
    moment.is_on_cpu()
        && moment
            .frames
            .first()
            .and_then(|frame| frame.function.as_deref())
            .is_some_and(|name| name.contains("memcpy") || name.contains("memmove"))
}

/// The advice for a cause in a situation.
pub(crate) fn advice(cause: Cause, moment: Option<&Moment<'_>>) -> &'static str {
    let special = moment.and_then(|moment| {
        INSTEAD
            .iter()
            .find(|row| row.cause == cause && (row.applies)(moment))
    });
    special.map_or(cause.rule().advice, |row| row.advice)
}
