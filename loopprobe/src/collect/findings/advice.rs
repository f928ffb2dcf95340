//! What to do about what is wrong with a loop as a whole.

use crate::model::FoundPoll;

/// Polls that wait for each other.
pub const DEADLOCK: &str = "take locks in one order everywhere, and hold none while waiting for another thread; a lock that is held \
     across .await belongs in tokio::sync::Mutex";

/// A task that is polled without end.
pub const BUSY_TASK: &str = "if it waits for something in a loop of yield_now or try_ calls, await that instead; a waker that is called \
     although nothing is ready does the same; if it computes, move that to spawn_blocking";

/// All workers of a runtime in these polls at once.
pub fn all_blocked(polls: &[FoundPoll]) -> String {
    let first = polls.first().and_then(|poll| poll.call.as_ref());
    let is_one = first.is_some() && polls.iter().all(|poll| poll.call.as_ref() == first);
    match first.filter(|_| is_one) {
        Some(call) => format!(
            "while this lasts nothing of the runtime runs, neither timers nor I/O: all of them are in {call}; move it to spawn_blocking"
        ),
        None => "while this lasts nothing of the runtime runs, neither timers nor I/O: move what blocks to spawn_blocking, the longest \
                 first"
            .to_owned(),
    }
}

/// Nobody turned the driver while these polls kept its thread, and so many workers of the runtime were parked.
pub fn driver_lag(idle: u64, polls: &[FoundPoll]) -> String {
    let call = polls.first().and_then(|poll| poll.call.as_ref());
    let what = call.map_or_else(
        || "what blocks in this poll".to_owned(),
        |call| format!("the call of {call}"),
    );
    let why = if idle > 0 {
        "idle workers do not take the driver over while the one that turned it last is in a poll"
    } else {
        "timers and I/O of this runtime are late by that much"
    };
    format!("{why}: move {what} to spawn_blocking")
}
