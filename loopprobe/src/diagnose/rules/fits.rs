//! Situations in which the advice of a cause does not fit.

use crate::{
    diagnose::{
        Moment, Object, blame::blamed, moment::names, operation::Operation, syscall::Waits,
    },
    model::{Frame, Role},
};

/// The standard library receives from a socket only while it starts a process: what became of
/// `exec`. What it computes may be about a child's output.
pub(super) fn is_start(moment: &Moment<'_>) -> bool {
    let is_starts = |name: &str| {
        let is_spawn = name.contains("process::") && name.ends_with("::spawn");
        is_spawn || name.contains("process::Command::spawn") || name.contains("posix_spawn")
    };
    let is_childs = moment.operation == Some(Operation::Child);
    let is_output = matches!(
        moment.waits(),
        None | Some(Waits::Descriptor | Waits::Poll | Waits::Child | Waits::MemoryMap)
    );
    matches!(moment.syscall.map(|call| call.number), Some(56..=58 | 435))
        || names(moment.frames).any(is_starts)
        || is_childs && moment.is_on_cpu() && !is_output
        || is_childs && moment.waits() == Some(Waits::Socket)
}

/// A new process is a child's matter, whichever call makes it.
pub(super) fn is_thread_start(moment: &Moment<'_>) -> bool {
    moment.waits() == Some(Waits::Start)
        && moment.calls(&["pthread_create", "std::thread::", "std::sys::thread::"])
}

/// Whether it writes what a child is to read.
pub(super) fn feeds_child(moment: &Moment<'_>) -> bool {
    let is_its = |object: &Object| matches!(object, Object::Pipe(pipe) if !pipe.reads);
    let writes = moment.syscall.is_some_and(|call| !call.reads());
    writes
        && moment.waits() == Some(Waits::Descriptor)
        && (moment.objects().any(is_its) || moment.calls(&["process::ChildStdin"]))
}

/// Whether a database may wait until another connection lets go of a lock: libraries take naps
/// until then.
pub(in crate::diagnose) fn may_wait_for_others(moment: &Moment<'_>) -> bool {
    matches!(
        moment.waits(),
        Some(Waits::Time | Waits::FileLock | Waits::Futex | Waits::Semaphore | Waits::Yield)
    )
}

/// By the system call, by a pipe that a child writes to, or by a name.
pub(super) fn is_wait_for_child(moment: &Moment<'_>) -> bool {
    let is_pipe_of_child = |object: &Object| matches!(object, Object::Pipe(pipe) if pipe.child);
    matches!(moment.waits(), Some(Waits::Child | Waits::Poll))
        || names(moment.frames).any(|name| name.contains("process::"))
        || moment.operation != Some(Operation::Child) && moment.objects().any(is_pipe_of_child)
}

/// Whether a wait with a time limit may have lasted until then.
pub(super) fn may_have_run_out(moment: &Moment<'_>) -> bool {
    moment.is_blocked() && !moment.woken && moment.syscall.is_some_and(|call| call.has_limit())
}

/// Whether the call that is to blame has entered an interpreter.
pub(super) fn is_in_guest(moment: &Moment<'_>) -> bool {
    let inside = blamed(moment.frames).unwrap_or(moment.frames.len());
    let mut inside = moment.frames[..inside].iter();
    inside.any(|frame| frame.role.guest().is_some())
}

/// What Tokio's own functions wait in that block: not always `block_on`.
pub(super) fn is_tokios_park(moment: &Moment<'_>) -> bool {
    let of_others = ["futures_executor::", "futures_lite::", "pollster::"];
    moment.waits() == Some(Waits::Futex) && !moment.calls(&of_others) && moment.calls(&["tokio::"])
}

/// A nap that neither `std::thread::sleep` nor the program itself takes: a function of C stands
/// between that is not the C library's.
pub(super) fn is_nap_of_c(moment: &Moment<'_>) -> bool {
    let deep = moment.frames.iter().take_while(|frame| {
        matches!(frame.role, Role::C | Role::Dependency) && frame.function.is_some()
    });
    let mut names = deep.filter_map(|frame| frame.function.as_deref());
    names.any(|name| !name.contains("::") && !crate::symbolize::is_c_name(name))
}

/// Whether it is neither standard output nor error.
pub(super) fn is_no_output(object: &Object) -> bool {
    let fd = match object {
        Object::Pipe(pipe) => pipe.fd,
        Object::Terminal { fd, .. } => Some(*fd),
        Object::Socket(socket) => socket.fd,
        _ => None,
    };
    fd.is_some_and(|fd| !matches!(fd, 1 | 2))
}

/// By name or, where it has none, by the source that it refers to.
pub(super) fn is_stds_sleep(frames: &[Frame]) -> bool {
    let is_near = |frame: &Frame| {
        let hint = frame.near.as_ref();
        hint.is_some_and(|near| near.file.contains("/library/std/src/"))
    };
    let is_named =
        |frame: &Frame| names(std::slice::from_ref(frame)).any(|name| name.starts_with("std::"));
    let inside = &frames[..blamed(frames).unwrap_or(frames.len())];
    inside.iter().any(|frame| is_named(frame) || is_near(frame))
}

/// Whether below what is to blame a logger stands.
pub(super) fn is_below_logger(moment: &Moment<'_>) -> bool {
    let inside = blamed(moment.frames).map_or(0, |own| own + 1);
    let is_loggers = |frame: &crate::model::Frame| {
        let hint = frame.near.as_ref().map_or("", |near| near.file.as_str());
        frame.role == Role::Logging || hint.contains("/tracing-") || hint.contains("/slog-async-")
    };
    moment.frames[..inside].iter().any(is_loggers)
}
