//! Whose operation a thread is in: asked before what system call it is in.
//!
//! The same `futex`, `recvfrom` or `nanosleep` is a lock's, a child's or a database's. The frames
//! tell, from the wait outwards: the first one that is known decides. Some only say how a thread
//! waits (a condition variable, a park); around those, still in the library's code, may stand what
//! it waits for.

use crate::{
    model::{Frame, Role, SourceLocation},
    runtime::{Plumbing, RUNTIMES},
};

/// What a known function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Takes a lock of this kind.
    Lock(&'static str),
    /// Takes from or puts into a channel between threads.
    Channel,
    /// Waits until another thread has done something; how.
    ThreadWait(&'static str),
    /// Waits in another event loop.
    Loop,
    /// Resolves a name.
    Resolver,
    /// Starts a process, or waits for one or for its output.
    Child,
    /// Works on a database; which.
    Database(&'static str),
    /// Writes a log, or to standard output or error.
    Logger,
    /// Makes a backtrace.
    Backtrace,
}

use Operation::{Backtrace, Channel, Child, Database, Lock, Logger, Loop, Resolver, ThreadWait};

/// How a thread waits, where something around it may say for what.
const PRIMITIVES: &[(&str, Operation)] = &[
    ("std::sys::sync::condvar", ThreadWait("condition variable")),
    (
        "std::sync::poison::condvar",
        ThreadWait("condition variable"),
    ),
    ("std::sync::condvar", ThreadWait("condition variable")),
    ("std::sync::Condvar", ThreadWait("condition variable")),
    (
        "std::sys::pal::unix::sync::condvar",
        ThreadWait("condition variable"),
    ),
    ("parking_lot::condvar", ThreadWait("condition variable")),
    ("pthread_cond_", ThreadWait("condition variable")),
    ("std::thread::park", ThreadWait("park")),
    ("std::thread::functions::park", ThreadWait("park")),
    ("std::thread::Thread::park", ThreadWait("park")),
    ("std::thread::current::", ThreadWait("park")),
    ("std::sys::sync::thread_parking", ThreadWait("park")),
    ("std::sys::pal::unix::thread_parking", ThreadWait("park")),
    ("parking_lot_core::", ThreadWait("park")),
    ("crossbeam_utils::sync::parker", ThreadWait("park")),
    ("sem_wait", ThreadWait("semaphore")),
    ("sem_timedwait", ThreadWait("semaphore")),
    ("sem_clockwait", ThreadWait("semaphore")),
    ("__new_sem_wait", ThreadWait("semaphore")),
];

/// Functions by a part of their name, first match first.
const FUNCTIONS: &[(&str, Operation)] = &[
    ("getaddrinfo", Resolver),
    ("getnameinfo", Resolver),
    ("gethostbyname", Resolver),
    ("gethostbyaddr", Resolver),
    ("__res_", Resolver),
    ("res_query", Resolver),
    ("res_search", Resolver),
    ("_nss_dns_", Resolver),
    ("std::sys::net::connection::socket::lookup_host", Resolver),
    ("std::net::socket_addr::resolve_socket_addr", Resolver),
    ("PyGILState_Ensure", Lock("GIL")),
    ("PyEval_RestoreThread", Lock("GIL")),
    ("PyEval_AcquireThread", Lock("GIL")),
    ("PyEval_AcquireLock", Lock("GIL")),
    ("take_gil", Lock("GIL")),
    ("std::sys::sync::rwlock", Lock("rwlock")),
    ("std::sync::poison::rwlock", Lock("rwlock")),
    ("std::sync::rwlock", Lock("rwlock")),
    ("std::sync::RwLock", Lock("rwlock")),
    ("parking_lot::raw_rwlock", Lock("rwlock")),
    ("pthread_rwlock_", Lock("rwlock")),
    ("std::sys::sync::mutex", Lock("mutex")),
    ("std::sync::poison::mutex", Lock("mutex")),
    ("std::sync::mutex", Lock("mutex")),
    ("std::sync::Mutex", Lock("mutex")),
    ("std::sync::reentrant_lock", Lock("mutex")),
    ("std::sys::pal::unix::sync::mutex", Lock("mutex")),
    ("parking_lot::raw_mutex", Lock("mutex")),
    ("parking_lot::remutex", Lock("mutex")),
    ("pthread_mutex_", Lock("mutex")),
    ("__lll_lock_wait", Lock("mutex")),
    ("spin::mutex", Lock("spin lock")),
    ("dashmap::", Lock("rwlock of a DashMap")),
    ("std::sys::sync::once", Lock("once cell")),
    ("std::sync::poison::once", Lock("once cell")),
    ("std::sync::once", Lock("once cell")),
    ("std::sync::lazy_lock", Lock("once cell")),
    ("once_cell::", Lock("once cell")),
    ("parking_lot::once", Lock("once cell")),
    ("pthread_once", Lock("once cell")),
    ("std::sync::mpsc", Channel),
    ("std::sync::mpmc", Channel),
    ("crossbeam_channel::", Channel),
    ("flume::", Channel),
    ("kanal::", Channel),
    ("std::sync::barrier", ThreadWait("barrier")),
    ("std::sync::Barrier", ThreadWait("barrier")),
    ("pthread_barrier_wait", ThreadWait("barrier")),
    ("std::thread::JoinHandle", ThreadWait("join")),
    ("std::thread::JoinInner", ThreadWait("join")),
    ("std::thread::join_handle", ThreadWait("join")),
    ("std::thread::lifecycle::JoinInner", ThreadWait("join")),
    ("std::sys::thread::unix::Thread::join", ThreadWait("join")),
    (
        "std::sys::pal::unix::thread::Thread::join",
        ThreadWait("join"),
    ),
    ("pthread_join", ThreadWait("join")),
    ("pthread_clockjoin", ThreadWait("join")),
    ("pthread_timedjoin", ThreadWait("join")),
    ("std::thread::scoped::", ThreadWait("scope")),
    ("rayon_core::", ThreadWait("rayon")),
    ("rayon::", ThreadWait("rayon")),
    ("reqwest::blocking::", ThreadWait("reqwest's own thread")),
    ("futures_executor::", Loop),
    ("futures_lite::future::block_on", Loop),
    ("pollster::", Loop),
    ("async_io::", Loop),
    ("smol::block_on", Loop),
    ("std::process::", Child),
    ("std::sys::process::", Child),
    ("std::sys::pal::unix::process::", Child),
    ("std::sys::unix::process::", Child),
    ("posix_spawn", Child),
    ("waitpid", Child),
    ("popen", Child),
    ("pclose", Child),
    ("sqlite3", Database("SQLite")),
    ("unixSleep", Database("SQLite")),
    ("sqliteDefaultBusyCallback", Database("SQLite")),
    ("rusqlite::", Database("SQLite")),
    ("libsqlite3_sys::", Database("SQLite")),
    ("PQexec", Database("PostgreSQL")),
    ("PQgetResult", Database("PostgreSQL")),
    ("PQconnect", Database("PostgreSQL")),
    ("mysql_real_", Database("MySQL")),
    ("mysql_query", Database("MySQL")),
    ("mdb_", Database("LMDB")),
    ("rocksdb", Database("RocksDB")),
    ("duckdb", Database("DuckDB")),
    ("sled::", Database("sled")),
    ("redb::", Database("redb")),
    ("diesel::", Database("diesel")),
    ("_Unwind_Backtrace", Backtrace),
    ("std::backtrace", Backtrace),
    ("backtrace::", Backtrace),
    ("addr2line::", Backtrace),
    ("gimli::", Backtrace),
    ("std::io::stdio::", Logger),
    ("tracing_subscriber::", Logger),
    ("tracing_appender::", Logger),
    ("env_logger::", Logger),
    ("log4rs::", Logger),
    ("fern::", Logger),
    ("flexi_logger::", Logger),
    ("simplelog::", Logger),
    ("slog_", Logger),
];

/// Source files of the same, for functions without a name.
const FILES: &[(&str, Operation)] = &[
    ("/library/std/src/sys/process/", Child),
    ("/library/std/src/sys/pal/unix/process/", Child),
    ("/library/std/src/process.rs", Child),
    ("/library/std/src/sync/mpmc/", Channel),
    ("/library/std/src/sync/mpsc/", Channel),
    ("/crossbeam-channel-", Channel),
    ("/flume-", Channel),
    ("/kanal-", Channel),
    ("/dashmap-", Lock("rwlock of a DashMap")),
    ("/rayon-core-", ThreadWait("rayon")),
    (
        "/reqwest-*/src/blocking/",
        ThreadWait("reqwest's own thread"),
    ),
    ("/futures-executor-", Loop),
    ("/pollster-", Loop),
    ("/rusqlite-", Database("SQLite")),
    ("/libsqlite3-sys-", Database("SQLite")),
    ("/rocksdb-", Database("RocksDB")),
    ("/sled-", Database("sled")),
    ("/redb-", Database("redb")),
    ("/diesel-", Database("diesel")),
    ("/library/std/src/io/stdio.rs", Logger),
    ("/tracing-subscriber-", Logger),
    ("/tracing-appender-", Logger),
    ("/env_logger-", Logger),
];

/// Whose operation a stack shows.
pub(crate) fn operation(frames: &[Frame]) -> Option<Operation> {
    let mut primitive = None;
    let glue = inner(frames).count();
    for (at, frame) in frames.iter().enumerate() {
        // The loop that polls the task is no other one.
        if let Some(found) = strong(frame).filter(|&found| found != Loop || at < glue) {
            return Some(found);
        }
        // What the program's own code does is its own affair, whoever called it.
        if frame.role == Role::Own {
            break;
        }
        primitive = primitive.or_else(|| named(frame, PRIMITIVES));
    }
    primitive
}

fn strong(frame: &Frame) -> Option<Operation> {
    let name = frame.function.as_deref().unwrap_or_default();
    let is_loop = || {
        let mut paths = paths(name).into_iter();
        paths.any(|path| Plumbing::drives_loop(RUNTIMES, path))
    };
    named(frame, FUNCTIONS)
        .or_else(|| is_loop().then_some(Loop))
        .or_else(|| spinning_lock(frame))
        .or_else(|| {
            [&frame.near, &frame.definition]
                .into_iter()
                .flatten()
                .find_map(in_file)
        })
}

/// A function without a name that refers to parking_lot's source is its lock if it yields the CPU:
/// those spin before they sleep, its condition variable does not.
fn spinning_lock(frame: &Frame) -> Option<Operation> {
    (frame.yields && is_of_parking_lot(frame)).then_some(SPINNING_LOCK)
}

/// A lock that a stripped file does not tell more of.
pub(crate) const SPINNING_LOCK: Operation = Lock("mutex or rwlock");

/// Whether a function without a name refers to parking_lot's source.
pub(crate) fn is_of_parking_lot(frame: &Frame) -> bool {
    let is_its = |near: &SourceLocation| {
        near.file.contains("/parking_lot_core-") || near.file.contains("/parking_lot-")
    };
    frame.function.is_none() && frame.near.as_ref().is_some_and(is_its)
}

fn named(frame: &Frame, table: &[(&str, Operation)]) -> Option<Operation> {
    let name = frame.function.as_deref()?;
    let is_path = name.contains("::");
    let paths = if is_path { paths(name) } else { Vec::new() };
    // Most patterns do not match, so that is asked first: each poll's stacks come here.
    let is_its = |pattern: &str| match is_path {
        true => paths.iter().any(|path| path.starts_with(pattern)) && pattern.contains("::"),
        false => begins_with(name, pattern) && !pattern.contains("::"),
    };
    let mut rows = table.iter();
    let found = rows.find(|(pattern, _)| is_its(pattern));
    found.map(|(_, operation)| *operation)
}

/// What follows from each place in a name at which a path begins: two of `<std::fs::File as
/// std::io::Read>::read`.
fn paths(name: &str) -> Vec<&str> {
    let is_inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let mut before = None;
    let mut paths = Vec::new();
    for (at, c) in name.char_indices() {
        if is_inside(c) && !before.is_some_and(is_inside) {
            paths.push(&name[at..]);
        }
        before = Some(c);
    }
    paths
}

/// Whether a name of C begins so, whatever the underscores in front.
fn begins_with(name: &str, pattern: &str) -> bool {
    name.trim_start_matches('_')
        .starts_with(pattern.trim_start_matches('_'))
}

/// Whether a path contains a pattern, whatever stands for its `*`.
fn matches(file: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        Some((before, after)) => file
            .split_once(before)
            .is_some_and(|(_, rest)| rest.contains(after)),
        None => file.contains(pattern),
    }
}

fn in_file(location: &SourceLocation) -> Option<Operation> {
    let known = FILES
        .iter()
        .find(|(pattern, _)| matches(&location.file, pattern))
        .map(|(_, operation)| *operation);
    known.or(Plumbing::is_loop_file(RUNTIMES, &location.file).then_some(Loop))
}

/// The frames below the poll's own glue: the outermost ones, from the poll's entry inwards, are
/// plumbing of every poll.
pub(crate) fn inner(frames: &[Frame]) -> impl Iterator<Item = &Frame> {
    let glue = frames
        .iter()
        .rev()
        .take_while(|frame| frame.runtime)
        .count();
    frames.iter().take(frames.len() - glue)
}
