use super::{Colour, Rule};
use crate::{
    diagnose::{Moment, blame::says_where_from, syscall::Waits},
    model::{Cause, Frame},
};

/// Another event loop inside the poll.
pub(super) const RULE: Rule = Rule {
    cause: Cause::NestedBlockOn,
    label: "nested block_on",
    colour: Colour::Other,
    recognised: "blocked in the parking of another event loop: block_on of Tokio, futures or pollster, or epoll_wait inside a poll",
    advice: "await the future instead of block_on, or run it in tokio::task::spawn_blocking",
    applies: |moment| moment.is_blocked() && is_nested(moment),
};

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

fn is_nested(moment: &Moment<'_>) -> bool {
    match moment.waits() {
        // An `epoll_wait` is a loop's own; only a loop would enter one inside a poll.
        Some(Waits::Events) => {
            let epoll = moment
                .syscall
                .is_some_and(|call| matches!(call.number, 232 | 281 | 441));
            epoll || is_loop(moment.frames)
        }
        Some(Waits::Futex | Waits::Poll) => is_loop(moment.frames),
        _ => false,
    }
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
