//! Blocked for a mutex, rwlock, flock or semaphore, and whose it is as the frames tell.

use super::{Colour, Rule};
use crate::{
    code::{is_workspace, registry_crate},
    diagnose::{
        Moment,
        moment::names,
        operation::{Operation, is_of_parking_lot},
        syscall::Waits,
    },
    model::{Cause, Frame, Role, SourceLocation},
};

/// A lock.
pub(super) const RULE: Rule = Rule {
    cause: Cause::Lock,
    label: "lock",
    colour: Colour::Lock,
    recognised: "blocked in futex in a mutex, rwlock or once cell, by the frames or the awaited value; in flock or a waiting fcntl, or on a semaphore of System V; in sched_yield while such a lock spins",
    advice: "hold the lock for less time and never across .await; use tokio::sync where the wait can be long, or wait in tokio::task::spawn_blocking",
    applies: is_lock,
};

fn is_lock(moment: &Moment<'_>) -> bool {
    let is_locks = matches!(moment.operation, Some(Operation::Lock(_)));
    match moment.waits() {
        Some(Waits::FileLock | Waits::Semaphore) => moment.is_blocked(),
        Some(Waits::Futex) => moment.is_blocked() && is_locks,
        Some(Waits::Yield) => is_locks,
        _ => false,
    }
}

/// Whose lock it is, by a part of the name of a function around it.
const OWNERS: &[(&str, &str)] = &[
    ("tokio::runtime::time::", "Tokio's timers"),
    ("tokio::runtime::io::", "Tokio's I/O driver"),
    ("std::io::stdio::", "standard output or error"),
    ("std::process::", "the environment"),
    ("std::env::", "the environment"),
    ("tracing_subscriber::", "tracing_subscriber"),
    ("malloc", "the allocator"),
    ("libc_free", "the allocator"),
    ("libc_realloc", "the allocator"),
    ("_rjem_", "the allocator"),
    ("sqlite3", "SQLite"),
];

/// The same by source files, for functions without a name.
const FILES: &[(&str, &str)] = &[
    ("/library/std/src/io/stdio.rs", "standard output or error"),
    ("/src/runtime/time/", "Tokio's timers"),
];

/// What kind of lock it is, and whose, where the frames tell.
pub(crate) fn kind(moment: &Moment<'_>) -> Option<String> {
    let kind = match (moment.operation, moment.waits()) {
        (Some(Operation::Lock(kind)), _) => kind,
        (_, Some(Waits::FileLock)) => "file lock",
        (_, Some(Waits::Semaphore)) => "semaphore",
        _ => return None,
    };
    Some(match owner(moment.frames) {
        Some(owner) => format!("{kind} of {owner}"),
        None => kind.to_owned(),
    })
}

/// Whose lock it is, if it is not the program's own.
pub(crate) fn owner(frames: &[Frame]) -> Option<&'static str> {
    let of = |table: &[(&str, &'static str)], text: &str| {
        let row = table.iter().find(|(pattern, _)| text.contains(pattern));
        row.map(|(_, owner)| *owner)
    };
    // In a stripped file a library's functions have hints at most. Where the program's own code may
    // begin, nothing is a library's.
    let is_hinted = |frame: &Frame| {
        let foreign = |near: &SourceLocation| !is_workspace(&near.file);
        frame.role == Role::Unknown
            && frame.function.is_none()
            && frame.near.as_ref().is_none_or(foreign)
    };
    let deep = frames
        .iter()
        .take_while(|frame| frame.runtime || is_hinted(frame));
    deep.into_iter()
        .find_map(|frame| match (&frame.function, &frame.near) {
            (Some(name), _) => of(OWNERS, name),
            (None, Some(near)) => of(FILES, &near.file),
            (None, None) => None,
        })
}

/// Whether nothing tells whose lock it is: the function that takes it has no name, and does not
/// refer to the program's own source.
pub(super) fn is_anybodys(frames: &[Frame]) -> bool {
    let is_lock = |frame: &&Frame| {
        frame.runtime || is_of_parking_lot(frame) || frame.near.as_ref().is_some_and(is_stds)
    };
    let taker = frames.iter().find(|frame| !is_lock(frame));
    taker.is_some_and(|taker| {
        let own = taker
            .near
            .as_ref()
            .is_some_and(|near| is_workspace(&near.file));
        taker.role == Role::Unknown && taker.function.is_none() && !own
    })
}

fn is_stds(near: &SourceLocation) -> bool {
    registry_crate(&near.file) == Some("std")
}

/// Whether the lock is a POSIX mutex, the only one that keeps its owner in memory.
pub(crate) fn names_its_holder(frames: &[Frame]) -> bool {
    names(frames).any(|name| name.contains("pthread_mutex") || name.contains("__lll_lock_wait"))
}
