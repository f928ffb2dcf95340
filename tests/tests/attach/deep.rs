//! Stacks of polls far down.

use std::time::Duration;

use anyhow::{Result, ensure};
use loopprobe::model::{LongPoll, Outcome, StackKind};
use loopprobe_tests::matrix::Build;
use loopprobe_tests::scenario::run;
use loopprobe_tests::share_machine;

/// How long the polls of the target's sleep that are deeper than a copy is: they are 132, 224 and
/// 188 KiB deep. The others are 50 to 119 (`deep_tasks` in `targets/src/bin/truth.rs`).
const TOO_DEEP: [Duration; 3] = [
    Duration::from_millis(4),
    Duration::from_millis(8),
    Duration::from_millis(15),
];
const CLOSE: Duration = Duration::from_millis(1);

/// Whether a poll slept for as long as one of them does. On a busy machine the short ones are long
/// polls too.
fn is_too_deep(poll: &LongPoll) -> bool {
    let blocked_ns = poll.split.map_or(0, |split| split.blocked_ns);
    let slept = Duration::from_nanos(blocked_ns);
    TOO_DEEP.iter().any(|ask| slept.abs_diff(*ask) < CLOSE)
}

#[test]
fn stacks_far_down_are_whole() -> Result<()> {
    share_machine!();
    let (_, report) = run(Build::DEFAULT, "deep", &[])?;
    let mut seen = 0;
    for poll in report.polls.iter().filter(|poll| poll.ended) {
        let blocked = poll.stacks.iter().filter(|s| s.kind == StackKind::Blocked);
        for stack in blocked.filter(|_| !is_too_deep(poll)) {
            ensure!(stack.outcome == Outcome::Complete, "{poll:?}");
            seen += 1;
        }
    }
    ensure!(seen >= 10, "only {seen} stacks");
    Ok(())
}
