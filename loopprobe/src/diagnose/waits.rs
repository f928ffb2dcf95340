use super::blame::says_where_from;
use super::{Object, StackEvidence, syscall::Waits};
use crate::model::{Cause, Frame};

/// Functions that resolve names, as the C library and the resolvers in Rust call them.
const RESOLVERS: &[&str] = &[
    "getaddrinfo",
    "getnameinfo",
    "gethostbyname",
    "gethostbyaddr",
    "getaddrinfo_a",
    "__res_",
    "res_query",
    "res_search",
    "_nss_dns_",
    "std::sys::net::connection::socket::lookup_host",
    "std::net::socket_addr::resolve_socket_addr",
];

/// Functions in which an event loop waits. Inside a poll that is another loop.
const LOOPS: &[&str] = &[
    "tokio::runtime::park::",
    "tokio::runtime::context::blocking::",
    "tokio::runtime::io::driver::",
    "tokio::runtime::time::",
    "tokio::runtime::scheduler::current_thread::",
    "tokio::runtime::runtime::Runtime::block_on",
    "tokio::runtime::handle::Handle::block_on",
    "futures_executor::",
    "futures_lite::future::block_on",
    "pollster::",
    "async_io::",
    "smol::block_on",
    "mio::poll::",
];

/// Source files of the same, for stripped modules.
const LOOP_FILES: &[&str] = &["/src/runtime/park.rs", "/futures-executor-", "/pollster-"];

/// Functions that wait for a child or for its output.
const CHILDREN: &[&str] = &[
    "std::process::",
    "std::sys::process::",
    "posix_spawn",
    "waitpid",
];

/// What waits on a futex, first match first.
const LOCKS: &[(&str, &str)] = &[
    ("rwlock", "rwlock"),
    ("RwLock", "rwlock"),
    ("pthread_rwlock", "rwlock"),
    ("Condvar", "condition variable"),
    ("pthread_cond", "condition variable"),
    ("mpsc", "channel"),
    ("mpmc", "channel"),
    ("crossbeam_channel", "channel"),
    ("JoinHandle", "thread join"),
    ("JoinInner", "thread join"),
    ("pthread_join", "thread join"),
    ("Barrier", "barrier"),
    ("sync::once", "once cell"),
    ("sync::poison::once", "once cell"),
    ("Mutex", "mutex"),
    ("mutex", "mutex"),
    ("__lll_lock_wait", "mutex"),
    ("std::thread::park", "park"),
];

/// Why a thread stood still with this stack.
pub(crate) fn cause(evidence: &StackEvidence) -> Cause {
    let frames = &evidence.stack.frames;
    let Some(syscall) = evidence.syscall else {
        // A thread in user code goes off the CPU of its own accord only in a page fault.
        return Cause::PageFault;
    };
    if is_resolving(evidence) {
        return Cause::Dns;
    }
    match syscall.waits() {
        Some(Waits::Time) => Cause::Sleep,
        Some(Waits::Sync) => Cause::Fsync,
        Some(Waits::Child) => Cause::Child,
        Some(Waits::FileLock) => Cause::Lock,
        Some(Waits::Path(_)) => Cause::FileIo,
        Some(Waits::Socket) => Cause::Network,
        Some(Waits::Futex) if is_loop(frames) => Cause::NestedBlockOn,
        Some(Waits::Futex) => Cause::Lock,
        Some(Waits::Descriptor) => descriptor(evidence),
        Some(Waits::Poll) => poll(evidence),
        // An `epoll_wait` is a loop's own; only a loop would enter one inside a poll.
        Some(Waits::Events) if matches!(syscall.number, 232 | 281 | 441) => Cause::NestedBlockOn,
        Some(Waits::Events) => poll(evidence),
        None if evidence.page_fault => Cause::PageFault,
        None => Cause::Unknown,
    }
}

/// What kind of lock a futex belongs to, where the frames between it and the blocking call tell.
pub(crate) fn lock_kind(frames: &[Frame]) -> Option<&'static str> {
    frames
        .iter()
        .take_while(|frame| frame.runtime)
        .filter_map(|frame| frame.function.as_deref())
        .find_map(|name| {
            LOCKS
                .iter()
                .find(|(pattern, _)| name.contains(pattern))
                .map(|(_, kind)| *kind)
        })
}

/// Whether the lock is a POSIX mutex, the only one that keeps its owner in memory.
pub(crate) fn names_its_holder(frames: &[Frame]) -> bool {
    any(frames, &["pthread_mutex", "__lll_lock_wait"])
}

fn is_resolving(evidence: &StackEvidence) -> bool {
    any(&evidence.stack.frames, RESOLVERS)
        || evidence.object.as_ref().is_some_and(Object::is_resolver)
}

fn is_loop(frames: &[Frame]) -> bool {
    // The poll's own loop is on no stack of the poll: stacks end at the poll's entry.
    let named = inner(frames).any(|frame| {
        frame
            .function
            .as_deref()
            .is_some_and(|name| LOOPS.iter().any(|pattern| name.contains(pattern)))
    });
    // A loop that was inlined into the function that enters it shows in that function's hint. What lies below may be the standard
    // library's: a frame of which nothing is known is nobody's.
    let own = frames
        .iter()
        .position(|frame| !frame.runtime && says_where_from(frame));
    let located = inner(frames)
        .take(own.map_or(0, |own| own + 1))
        .any(|frame| {
            [&frame.near, &frame.definition, &frame.location]
                .into_iter()
                .flatten()
                .any(|location| LOOP_FILES.iter().any(|file| location.file.contains(file)))
        });
    named || located
}

/// The frames below the poll's own glue: the outermost ones, from the poll's entry inwards, are runtime frames of every
/// poll.
fn inner(frames: &[Frame]) -> impl Iterator<Item = &Frame> {
    let glue = frames
        .iter()
        .rev()
        .take_while(|frame| frame.runtime)
        .count();
    frames.iter().take(frames.len() - glue)
}

fn descriptor(evidence: &StackEvidence) -> Cause {
    match &evidence.object {
        // The file has been closed meanwhile, and its descriptor is a connection's by now.
        Some(Object::Socket { .. }) if any(&evidence.stack.frames, &["std::fs::"]) => Cause::FileIo,
        Some(Object::Socket { .. }) => Cause::Network,
        Some(Object::Pipe) if any(&evidence.stack.frames, CHILDREN) => Cause::Child,
        Some(Object::File { .. } | Object::Pipe) => Cause::FileIo,
        Some(Object::Futex { .. } | Object::Other { .. }) => Cause::Unknown,
        None if any(
            &evidence.stack.frames,
            &["std::net::", "std::os::unix::net::"],
        ) =>
        {
            Cause::Network
        }
        None if any(&evidence.stack.frames, CHILDREN) => Cause::Child,
        None => Cause::FileIo,
    }
}

fn poll(evidence: &StackEvidence) -> Cause {
    let frames = &evidence.stack.frames;
    match &evidence.object {
        _ if is_loop(frames) => Cause::NestedBlockOn,
        _ if any(frames, CHILDREN) => Cause::Child,
        Some(Object::Socket { .. }) => Cause::Network,
        _ if any(frames, &["std::net::", "TcpStream"]) => Cause::Network,
        Some(Object::Pipe) => Cause::FileIo,
        _ => Cause::Unknown,
    }
}

fn any(frames: &[Frame], patterns: &[&str]) -> bool {
    frames
        .iter()
        .filter_map(|frame| frame.function.as_deref())
        .any(|name| patterns.iter().any(|pattern| name.contains(pattern)))
}
