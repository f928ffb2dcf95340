//! A thread that loses its CPU beside a poll, inside a probe: that wait is not the poll's.

use anyhow::{Result, ensure};
use loopprobe::model::{LongPoll, TaskKind};
use loopprobe_tests::accuracy::TOLERANCE_NS;
use loopprobe_tests::matrix::Build;
use loopprobe_tests::scenario::{gated, observe};
use loopprobe_tests::take_machine;
use loopprobe_tests::truth::Poll;

/// Waits for a CPU are of some milliseconds.
const THRESHOLD_NS: u64 = 2_000_000;

/// Of how many reports one may lie in no poll that the target has recorded: Tokio's own code at
/// both ends of a poll is the poll's too, and the target's clock does not see when that is
/// preempted. A twentieth was measured; a third before such switches were told apart.
const BESIDE: usize = 8;
/// The same with entry-only timing: behind the poll, a part of the scheduler's code counts as well.
/// A tenth was expected from a target with polls of half the length.
const BESIDE_LIGHT: usize = 5;

/// The reports of task polls that lie in no poll that the target has recorded, and those that do
/// with their poll.
fn split<'a>(
    truth: &'a [Poll],
    reports: &'a [LongPoll],
) -> (Vec<&'a LongPoll>, Vec<(&'a Poll, &'a LongPoll)>) {
    let (mut beside, mut within) = (Vec::new(), Vec::new());
    let reports = reports
        .iter()
        .filter(|report| report.task.kind != TaskKind::Root);
    for report in reports {
        let end_ns = report.start_ns + report.duration_ns;
        let common = |poll: &Poll| {
            end_ns
                .min(poll.end_ns)
                .saturating_sub(report.start_ns.max(poll.start_ns))
        };
        let poll = truth
            .iter()
            .find(|poll| poll.tid == report.tid && common(poll) * 2 > report.duration_ns);
        match poll {
            Some(poll) => within.push((poll, report)),
            None => beside.push(report),
        }
    }
    (beside, within)
}

fn check(build: Build, args: &[&str], allowed: usize) -> Result<()> {
    take_machine!();
    let mut target = gated(build, "truth", &["hogs", "--millis", "4000"])?;
    let args = [&["--threshold", "2ms"], args].concat();
    let (truth, report) = observe(&mut target, &args)?;
    let (beside, within) = split(&truth, &report.polls);
    let roots = report.polls.len() - beside.len() - within.len();
    let long: Vec<_> = truth
        .iter()
        .filter(|poll| poll.kind == "async" && poll.duration_ns() >= THRESHOLD_NS)
        .collect();
    let far = within.iter().filter(|(poll, report)| {
        let start = poll.start_ns.abs_diff(report.start_ns);
        start.max(poll.duration_ns().abs_diff(report.duration_ns)) > TOLERANCE_NS
    });
    let (far, all) = (far.count(), beside.len() + within.len());
    eprintln!(
        "{args:?}: {} true polls, {all} reports, {} beside any, {far} off by more than 20 us, {roots} root futures",
        long.len(),
        beside.len(),
    );
    ensure!(long.len() > 20, "the target was hardly preempted");
    // One that is that close to the threshold may be on either side of it for loopprobe.
    let sure = THRESHOLD_NS + TOLERANCE_NS;
    for poll in long.iter().filter(|poll| poll.duration_ns() >= sure) {
        let found = within
            .iter()
            .any(|(seen, _)| seen.start_ns == poll.start_ns);
        ensure!(found, "no report of {poll:?}");
    }
    ensure!(
        beside.len() * allowed <= all,
        "{} of {all} reports lie in no poll: {:?}",
        beside.len(),
        beside.first()
    );
    ensure!(
        far * 10 <= within.len(),
        "{far} of {} are off",
        within.len()
    );
    ensure!(roots == 0, "the root future only waits: {roots}");
    Ok(())
}

#[test]
fn a_wait_for_a_cpu_inside_a_probe_is_not_the_polls() -> Result<()> {
    check(Build::DEFAULT, &[], BESIDE)?;
    check(Build::DEFAULT.stripped(), &[], BESIDE)
}

#[test]
fn a_wait_for_a_cpu_inside_a_probe_is_not_the_polls_with_entries_alone() -> Result<()> {
    check(Build::DEFAULT, &["--light"], BESIDE_LIGHT)
}
