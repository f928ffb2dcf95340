//! The future given to `block_on` is no task, but it blocks the loop as well.

use anyhow::{Context as _, Result, bail, ensure};
use loopprobe::model::{Cause, LongPoll, TaskKind};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::Build;
use loopprobe_tests::scenario::{THRESHOLD_NS, gated, observe, run};
use loopprobe_tests::truth::Poll;
use loopprobe_tests::{share_machine, take_machine};

/// A root poll is what lies between two polls and the driver: the turn of the loop around it counts
/// as well.
const LOOP_TURN_NS: u64 = 200_000;

fn check(build: Build, scenario: &str) -> Result<()> {
    share_machine!();
    let (truth, report) = run(build, scenario, &[])?;
    let roots = compare(&truth, &report.polls, "root", THRESHOLD_NS)?;
    let (start, duration) = roots.medians();
    eprintln!(
        "{scenario}: {} root polls, start off by {start} ns, duration by {duration} ns (medians)",
        roots.matched
    );
    ensure!(roots.matched > 0, "no long root poll to see");
    ensure!(
        start.max(duration) < LOOP_TURN_NS,
        "off by {start} and {duration} ns"
    );
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?;
    Ok(())
}

#[test]
fn a_blocking_root_future_of_a_current_thread_runtime_is_reported() -> Result<()> {
    check(Build::DEFAULT, "root")
}

#[test]
fn a_blocking_root_future_is_reported_in_a_stripped_program() -> Result<()> {
    check(Build::DEFAULT.stripped(), "root")
}

#[test]
fn a_blocking_root_future_of_a_multi_thread_runtime_is_reported_or_declared_uncovered() -> Result<()>
{
    share_machine!();
    for build in [Build::DEFAULT, Build::DEFAULT.stripped()] {
        let (truth, report) = run(build, "root_multi", &[])?;
        let declared = report
            .head
            .limits
            .iter()
            .any(|limit| limit.contains("root"));
        if !declared {
            let roots = compare(&truth, &report.polls, "root", THRESHOLD_NS)?;
            ensure!(roots.matched > 0, "no long root poll to see");
        }
    }
    Ok(())
}

/// The thread parks in a futex, and a lock, a channel or a condition variable waits in one too.
#[test]
fn a_root_future_that_waits_in_a_futex_is_not_parked() -> Result<()> {
    check(Build::DEFAULT, "root_waits")
}

/// One that hangs may never end, and is told while it waits.
#[test]
fn a_root_future_that_hangs_is_told_while_it_does() -> Result<()> {
    share_machine!();
    let (truth, report) = run(Build::DEFAULT, "root_hangs", &[])?;
    let roots = report
        .polls
        .iter()
        .filter(|poll| poll.task.kind == TaskKind::Root);
    let (ended, open): (Vec<&LongPoll>, Vec<_>) = roots.partition(|poll| poll.ended);
    // It is told again when it has taken twice as long, which on a busy machine it may.
    let (1 | 2, Some(open)) = (open.len(), open.first()) else {
        bail!("told {} times: {open:?}", open.len());
    };
    ensure!(
        (1_000_000_000..2_500_000_000).contains(&open.duration_ns),
        "{open:?}"
    );
    let cause = open.diagnosis.as_ref().map(|diagnosis| diagnosis.cause);
    ensure!(cause == Some(Cause::ThreadWait), "{open:?}");
    let end = ended.iter().find(|poll| poll.start_ns == open.start_ns);
    ensure!(end.is_some(), "its end is not told: {ended:?}");
    let roots = compare(&truth, &report.polls, "root", THRESHOLD_NS)?;
    ensure!(roots.matched > 0, "{roots:?}");
    Ok(())
}

/// Of a wait the target itself learns a little later than the scheduler.
const CLOSE_NS: u64 = 300_000;

fn is_around(poll: &Poll, report: &LongPoll) -> bool {
    poll.kind == "root"
        && poll.tid == report.tid
        && poll.start_ns <= report.start_ns
        && report.start_ns + report.duration_ns <= poll.end_ns
}

/// Without symbols a second session watches: what waits is told, between bounds, and all else as
/// before.
fn check_watched(args: &[&str]) -> Result<()> {
    take_machine!();
    let arguments = ["root_multi", "--rounds", "60"];
    let mut target = gated(Build::DEFAULT.stripped(), "truth", &arguments)?;
    let (truth, report) = observe(&mut target, args)?;
    let mut notices = report.notices.iter();
    let begun = notices.find(|notice| notice.message.contains("root futures of multi_thread"));
    let from_ns = begun.context("not watched")?.time_ns;
    let roots = report
        .polls
        .iter()
        .filter(|poll| poll.task.kind == TaskKind::Root);
    let roots: Vec<&LongPoll> = roots.filter(|poll| poll.ended).collect();
    for root in &roots {
        ensure!(root.bounds.is_some_and(|bounds| bounds.certain), "{root:?}");
        let found = truth.iter().filter(|poll| is_around(poll, root));
        let found: Vec<&Poll> = found.collect();
        ensure!(found.len() == 1, "{root:?} lies in {found:?}");
        let hi_ns = root.bounds.and_then(|bounds| bounds.duration_hi_ns);
        let duration_ns = found[0].duration_ns();
        ensure!(hi_ns.is_none_or(|hi_ns| duration_ns <= hi_ns), "{root:?}");
    }
    let waited = |poll: &&Poll| {
        let blocked_ns = poll.duration_ns().saturating_sub(poll.cpu_ns);
        poll.kind == "root"
            && poll.start_ns > from_ns
            && poll.preempted_at_start == poll.preempted_at_end
            && blocked_ns >= THRESHOLD_NS + CLOSE_NS
    };
    let waited: Vec<&Poll> = truth.iter().filter(waited).collect();
    let told = |poll: &&Poll| roots.iter().filter(|root| is_around(poll, root)).count();
    let once = waited.iter().filter(|poll| told(poll) == 1).count();
    let switches = report.summary.lost.map_or(0, |lost| lost.switches) as usize;
    eprintln!(
        "{args:?}: {once} of {} told, {switches} switches lost",
        waited.len()
    );
    ensure!(
        waited.len() > 10 && once + switches >= waited.len(),
        "{once} of {}",
        waited.len()
    );
    ensure!(
        report.summary.polls.is_some_and(|polls| polls > 0),
        "tasks are counted as before"
    );
    ensure!(
        report.summary.possible_long_polls.is_none(),
        "{:?}",
        report.summary
    );
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?;
    Ok(())
}

#[test]
fn the_root_future_of_a_stripped_multi_thread_program_is_watched() -> Result<()> {
    check_watched(&[])
}

#[test]
fn it_is_watched_beside_entry_only_timing_too() -> Result<()> {
    check_watched(&["--light"])
}

#[test]
fn with_symbols_nothing_is_watched() -> Result<()> {
    share_machine!();
    let (_, report) = run(Build::DEFAULT, "root_multi", &[])?;
    ensure!(!report.remarks("root futures"), "{:?}", report.notices);
    ensure!(report.polls.iter().all(|poll| poll.bounds.is_none()));
    Ok(())
}

/// On a runtime of one thread the time between polls tells it all, and nothing is told twice.
#[test]
fn what_is_timed_is_not_watched_too() -> Result<()> {
    share_machine!();
    let arguments = ["root", "--rounds", "60"];
    let mut target = gated(Build::DEFAULT.stripped(), "truth", &arguments)?;
    let (truth, report) = observe(&mut target, &[])?;
    ensure!(report.polls.iter().all(|poll| poll.bounds.is_none()));
    let roots = compare(&truth, &report.polls, "root", THRESHOLD_NS)?;
    ensure!(roots.matched > 0, "no long root poll to see");
    Ok(())
}
