//! What speaks for a cause, by name and in words: path, peer, holder, who ended the wait.

use std::collections::BTreeMap;

use super::{
    Database, Halt, Moment, Object, PollEvidence, ReadyLoop, StackEvidence, Taker, Waker,
    blame::{blamed, blocking_call, describe, entry, place},
    descriptors::is_misused,
    object::{Pipe, Socket},
    operation::Operation,
    rules::{lock, may_wait_for_others},
    syscall::Waits,
    time::time,
};
use crate::{
    code::short_path,
    model::{Cause, Frame, Role, SourceLocation},
};

/// Facts by name.
type Facts = BTreeMap<String, String>;

/// What speaks for the cause, by name.
pub(crate) fn facts(
    evidence: &PollEvidence,
    cause: Cause,
    ns: u64,
    dominant: Option<(&StackEvidence, Moment<'_>)>,
) -> Facts {
    let mut facts = Facts::new();
    add(&mut facts, "ns", ns);
    if let Some(throttle) = evidence.throttle.filter(|_| cause == Cause::Throttled) {
        add(&mut facts, "throttled_ns", throttle.throttled_ns);
        add(&mut facts, "throttled_periods", throttle.periods);
    }
    let preempted_by = takers(&evidence.takers);
    if matches!(cause, Cause::Preempted | Cause::Spin) && !preempted_by.is_empty() {
        add(&mut facts, "preempted_by", preempted_by);
    }
    let Some((found, moment)) = dominant else {
        return facts;
    };
    of_halt(&mut facts, found.halt, evidence);
    of_waker(&mut facts, cause, found);
    if let Some(syscall) = moment.syscall {
        add(&mut facts, "syscall", syscall.name());
    }
    if let Some(frame) = entry(moment.frames) {
        let names = frame.names().unwrap_or_else(|| place(frame).into());
        add(&mut facts, "function", names);
    }
    if let Some(guest) = guest(&moment) {
        add(&mut facts, "guest", guest);
    }
    of_cause(&mut facts, cause, &moment);
    if let Some(looped) = found
        .ready_loop
        .as_ref()
        .filter(|_| cause == Cause::NeverYields)
    {
        add(&mut facts, "awaits", awaits(looped, ns));
    }
    if cause == Cause::Database {
        of_databases(&mut facts, evidence, may_wait_for_others(&moment));
    }
    for object in moment.objects() {
        of_object(&mut facts, cause, object, &moment);
    }
    facts
}

fn add(facts: &mut Facts, name: &str, value: impl ToString) {
    facts.insert(name.to_owned(), value.to_string());
}

/// The innermost function that an interpreter runs, where the program names it; else how it would.
fn guest<'a>(moment: &Moment<'a>) -> Option<&'a str> {
    let frames = moment.frames;
    let inside = &frames[..blamed(frames).unwrap_or(frames.len())];
    let is_guests = |frame: &&Frame| frame.role.guest().is_some() && frame.address.is_some();
    match inside.iter().find(is_guests) {
        Some(frame) if frame.function.is_some() => frame.function.as_deref(),
        Some(_) => Some(NAMELESS_JAVASCRIPT),
        None => moment.may_be_javascript.then_some(PERHAPS_JAVASCRIPT),
    }
}

/// V8 tells nobody what it runs unless it is asked to.
const NAMELESS_JAVASCRIPT: &str =
    "JavaScript, whose functions V8 names if it is started with --perf-basic-prof";
const PERHAPS_JAVASCRIPT: &str =
    "perhaps JavaScript, whose functions V8 names if it is started with --perf-basic-prof";

/// `at least 2000 of the async function or block at src/main.rs:7`.
fn awaits(looped: &ReadyLoop, ns: u64) -> String {
    let count = ns / looped.turn_ns.max(1);
    // One digit, rounded down: some turns stand for all.
    let step = 10_u64.pow(count.max(1).ilog10());
    let count = count / step * step;
    match &looped.of {
        Some(SourceLocation { file, line, .. }) => {
            let file = short_path(file);
            format!("at least {count} of the async function or block at {file}:{line}")
        }
        None => format!("at least {count}"),
    }
}

/// `hog (812) 45 ms, thread rayon-0 3 ms`. Who had the CPU for less than a millisecond at the end
/// of a wait is not to blame for it.
fn takers(takers: &[Taker]) -> String {
    const SHOWN: usize = 3;
    let in_ms = takers.iter().map(|taker| (taker, taker.had_ns / 1_000_000));
    let shown = in_ms.filter(|(_, ms)| *ms > 0).take(SHOWN);
    let words = shown.map(|(taker, ms)| match taker.process {
        Some(process) => format!("{} ({process}) {ms} ms", taker.name),
        None => format!("thread {} of this process {ms} ms", taker.name),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// `rayon-1 (813) in app::tile`. Of other waits than those for a lock, in which the function that
/// lets go is what matters, a library's function says how it wakes and not what it did before: only
/// the program's own, and async bodies, are named.
fn woken_by(waker: &Waker, cause: Cause) -> String {
    let thread = format!("{} ({})", waker.name, waker.tid);
    let does_its_work = |frame: &Frame| frame.role == Role::Own || frame.async_body;
    let call = match cause {
        Cause::Lock => blocking_call(&waker.frames),
        _ => waker.frames.iter().find(|f| does_its_work(f)).map(describe),
    };
    let thread = match call {
        Some(call) => format!("{thread} in {}", call.function),
        None => thread,
    };
    match waker
        .work
        .as_ref()
        .map(|work| (blocking_call(&work.frames), time(work.ns)))
    {
        Some((Some(call), time)) => format!(
            "{thread}, which computed for at least {time} meanwhile, mostly in {}",
            call.function
        ),
        Some((None, time)) => format!("{thread}, which computed for at least {time} meanwhile"),
        None if waker.looped_ns >= LEAST_LOOPED_NS => format!(
            "{thread}, which waited for at least {} meanwhile in its own event loop, for I/O or a timer",
            time(waker.looped_ns)
        ),
        None => thread,
    }
}

/// Shorter waits of a thread that ended a poll's explain little.
const LEAST_LOOPED_NS: u64 = 1_000_000;

fn of_waker(facts: &mut Facts, cause: Cause, found: &StackEvidence) {
    let name = match cause {
        Cause::Lock => "holder",
        Cause::Channel | Cause::ThreadWait | Cause::NestedBlockOn => "waker",
        _ => return,
    };
    if let Some(waker) = &found.waker {
        add(facts, name, woken_by(waker, cause));
    }
}

fn of_halt(facts: &mut Facts, halt: Option<Halt>, evidence: &PollEvidence) {
    match halt {
        Some(Halt::Stopped {
            signal: Some(signal),
        }) => add(facts, "signal", signal_name(signal)),
        Some(Halt::Traced) => {
            if let Some(tracer) = &evidence.tracer {
                add(facts, "tracer", tracer);
            }
        }
        Some(Halt::Frozen | Halt::Reclaim { group: true }) => {
            if let Some(group) = &evidence.group {
                add(facts, "group", group);
            }
        }
        _ => {}
    }
}

fn signal_name(signal: u32) -> String {
    match signal as i32 {
        libc::SIGSTOP => "SIGSTOP".to_owned(),
        libc::SIGTSTP => "SIGTSTP".to_owned(),
        libc::SIGTTIN => "SIGTTIN".to_owned(),
        libc::SIGTTOU => "SIGTTOU".to_owned(),
        other => other.to_string(),
    }
}

fn of_cause(facts: &mut Facts, cause: Cause, moment: &Moment<'_>) {
    match (cause, moment.operation) {
        (Cause::Lock, _) => {
            if let Some(kind) = lock::kind(moment) {
                add(facts, "lock", kind);
            }
        }
        (Cause::ThreadWait, Some(Operation::ThreadWait(how))) => add(facts, "wait", how),
        (Cause::Database, Some(Operation::Database(name))) => add(facts, "database", name),
        (Cause::Drop, _) => {
            if let Some(dropped) = dropped(moment) {
                add(facts, "dropped", dropped);
            }
        }
        (Cause::Cpu | Cause::PageFault, _) if moment.copies => add(facts, "copying", "true"),
        _ => {}
    }
}

/// The database files that somebody has locked, where that may be waited for; else the only one.
fn of_databases(facts: &mut Facts, evidence: &PollEvidence, waits: bool) {
    let locked = |database: &&Database| waits && !database.holders.is_empty();
    match &evidence.databases[..] {
        [only] if !waits || only.holders.is_empty() => add(facts, "path", &only.path),
        several => {
            if let Some(database) = several.iter().find(locked) {
                add(facts, "path", &database.path);
                add(facts, "holder", database.holders.join(", "));
            }
        }
    }
}

/// The type of the value whose drop glue is on the stack, outermost before the program's own code.
fn dropped(moment: &Moment<'_>) -> Option<String> {
    let own = blamed(moment.frames)?;
    moment.frames[..own].iter().rev().find_map(|frame| {
        let name = frame.full_name.as_deref().or(frame.function.as_deref())?;
        let inner = name.split_once("drop_in_place<")?.1;
        Some(inner.strip_suffix('>').unwrap_or(inner).to_owned())
    })
}

fn of_object(facts: &mut Facts, cause: Cause, object: &Object, moment: &Moment<'_>) {
    match object {
        Object::File { path, .. } => add(facts, "path", path),
        Object::Locked(file) => {
            if let Some(path) = &file.path {
                add(facts, "path", path);
            }
            if !file.holders.is_empty() {
                let holders = file.holders.join(", ");
                add(facts, "holder", format!("{holders} when this was reported"));
            }
        }
        Object::Socket(_) if cause == Cause::FileIo => {}
        Object::Socket(socket) => of_socket(facts, socket),
        Object::Pipe(pipe) => of_pipe(facts, pipe),
        Object::Terminal { fd, path } => {
            add(facts, "fd", descriptor(*fd));
            add(facts, "path", path);
        }
        Object::Futex { holder } => {
            let known = holder.filter(|_| lock::names_its_holder(moment.frames));
            if let Some(holder) = known.filter(|_| cause == Cause::Lock) {
                add(facts, "holder_tid", holder);
            }
        }
        Object::Other { name } => add(facts, "object", name),
        Object::Any(_) => {}
    }
    if cause == Cause::Closing
        && matches!(object, Object::Socket(_))
        && moment.waits() == Some(Waits::Close)
    {
        add(facts, "linger", "likely");
    }
}

fn of_socket(facts: &mut Facts, socket: &Socket) {
    add(facts, "protocol", &socket.protocol);
    if let Some(peer) = &socket.peer {
        add(facts, "peer", peer);
    }
    if let Some(fd) = socket.fd {
        add(facts, "fd", descriptor(fd));
    }
    if is_misused(socket) {
        add(facts, "blocking_mode", "true");
    }
}

fn of_pipe(facts: &mut Facts, pipe: &Pipe) {
    add(facts, "object", "pipe");
    if let Some(fd) = pipe.fd {
        add(facts, "fd", descriptor(fd));
    }
    if !pipe.peers.is_empty() {
        add(facts, "peer_process", pipe.peers.join(", "));
    }
}

/// A descriptor's number, and what programs use it for.
fn descriptor(fd: u32) -> String {
    match fd {
        0 => "0 (stdin)".to_owned(),
        1 => "1 (stdout)".to_owned(),
        2 => "2 (stderr)".to_owned(),
        other => other.to_string(),
    }
}
