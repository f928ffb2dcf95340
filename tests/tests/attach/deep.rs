//! Stacks of polls far down.

use std::time::Duration;

use anyhow::{Result, ensure};
use loopprobe::model::{LongPoll, Outcome, StackKind};
use loopprobe_tests::matrix::Build;
use loopprobe_tests::scenario::run;
use loopprobe_tests::share_machine;

/// The only poll of the target's that is deeper than a copy is (188 KiB); the others are 57 to 119
/// deep.
const DEEPEST: Duration = Duration::from_millis(15);
const CLOSE: Duration = Duration::from_millis(1);

/// Whether a poll slept for as long as the deepest one does.
fn is_deepest(poll: &LongPoll) -> bool {
    let blocked_ns = poll.split.map_or(0, |split| split.blocked_ns);
    Duration::from_nanos(blocked_ns).abs_diff(DEEPEST) < CLOSE
}

#[test]
fn stacks_far_down_are_whole() -> Result<()> {
    share_machine!();
    let (_, report) = run(Build::DEFAULT, "deep", &[])?;
    let mut seen = 0;
    for poll in report.polls.iter().filter(|poll| poll.ended) {
        let blocked = poll.stacks.iter().filter(|s| s.kind == StackKind::Blocked);
        for stack in blocked.filter(|_| !is_deepest(poll)) {
            ensure!(stack.outcome == Outcome::Complete, "{poll:?}");
            seen += 1;
        }
    }
    ensure!(seen >= 10, "only {seen} stacks");
    Ok(())
}
