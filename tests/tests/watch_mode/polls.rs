//! Polls: those that wait are certain, others are possible, and nothing false is said of any.

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Bounds, Cause, LongPoll, Mode, TaskKind};
use loopprobe_tests::{
    matrix::{Build, Profile},
    scenario::{self, THRESHOLD_NS},
    session::Report,
    take_machine,
    truth::Poll,
};

use crate::WATCH;

/// With fewer polls that waited nothing is shown.
const FEWEST: usize = 3;

/// What a scenario must come to beside what holds for all.
struct Wanted {
    scenario: &'static str,
    /// Whether its blocked polls wait in a single call, so that each is certain.
    waits: bool,
}

const fn waits(scenario: &'static str) -> Wanted {
    Wanted {
        scenario,
        waits: true,
    }
}

const fn computes(scenario: &'static str) -> Wanted {
    Wanted {
        scenario,
        waits: false,
    }
}

fn bounds(poll: &LongPoll) -> Result<Bounds> {
    poll.bounds.with_context(|| format!("no bounds: {poll:?}"))
}

/// The innermost true poll in which a report lies.
fn true_poll<'a>(report: &LongPoll, truth: &'a [Poll]) -> Option<&'a Poll> {
    let end_ns = report.start_ns + report.duration_ns;
    let is_around = |poll: &&Poll| {
        matches!(&*poll.kind, "async" | "root")
            && poll.tid == report.tid
            && poll.start_ns <= report.start_ns
            && end_ns <= poll.end_ns
    };
    truth
        .iter()
        .filter(is_around)
        .min_by_key(|poll| poll.duration_ns())
}

/// Nothing that a report says of a poll is false.
fn is_true(report: &LongPoll, truth: &[Poll]) -> Result<()> {
    let Bounds {
        duration_lo_ns,
        duration_hi_ns,
        certain,
    } = bounds(report)?;
    ensure!(certain && duration_lo_ns >= THRESHOLD_NS, "{report:?}");
    ensure!(duration_lo_ns == report.duration_ns, "{report:?}");
    let Some(poll) = true_poll(report, truth) else {
        // The target's record begins some instructions behind the poll's beginning, and ends before
        // its end. A thread may have lost its CPU there, but has not waited.
        let blocked_ns = report.split.map_or(0, |split| split.blocked_ns);
        ensure!(
            blocked_ns == 0,
            "no poll was open all that time: {report:?}"
        );
        return Ok(());
    };
    ensure!(
        duration_hi_ns.is_none_or(|hi_ns| poll.duration_ns() <= hi_ns),
        "longer than it can be: {poll:?}, {report:?}"
    );
    match &*poll.kind {
        "root" => ensure!(report.task.kind == TaskKind::Root, "{poll:?}, {report:?}"),
        _ => ensure!(report.task_id == poll.task_id, "{poll:?}, {report:?}"),
    }
    Ok(())
}

/// Whether a poll waited for longer than the threshold without a break, as far as the target knows.
fn waited(poll: &Poll) -> bool {
    // It has learnt of its own wait a little later than the scheduler.
    const CLOSE_NS: u64 = 300_000;
    matches!(&*poll.kind, "async" | "root")
        && !poll.block_in_place
        && poll.preempted_at_start == poll.preempted_at_end
        && poll.duration_ns() - poll.cpu_ns.min(poll.duration_ns()) >= THRESHOLD_NS + CLOSE_NS
}

/// A run in which enough polls waited, of so many: on a busy machine the target may have been
/// preempted wherever that could be told.
fn telling(build: Build, wanted: &Wanted) -> Result<(Vec<Poll>, Report)> {
    const RUNS: usize = 4;
    let mut told = scenario::run(build, wanted.scenario, &WATCH)?;
    for _ in 1..RUNS {
        let long = told.0.iter().filter(|poll| waited(poll));
        if !wanted.waits || long.count() >= FEWEST {
            break;
        }
        told = scenario::run(build, wanted.scenario, &WATCH)?;
    }
    Ok(told)
}

fn check(build: Build, wanted: &Wanted) -> Result<()> {
    take_machine!();
    let Wanted { scenario, waits } = wanted;
    let (truth, report) = telling(build, wanted)?;
    ensure!(report.head.mode == Some(Mode::Watch) && report.head.sites == 0);
    let ended = report.ended();
    for poll in &ended {
        is_true(poll, &truth).with_context(|| format!("{scenario}, {build:?}"))?;
    }
    let long = truth.iter().filter(|poll| waited(poll));
    let long: Vec<&Poll> = long.collect();
    if *waits {
        let missed = long.iter().filter(|poll| {
            let is_it = |report: &&LongPoll| {
                true_poll(report, &truth).is_some_and(|found| std::ptr::eq(found, **poll))
            };
            !ended.iter().any(is_it)
        });
        let missed: Vec<_> = missed.collect();
        // Some virtual machines' kernels do not show every switch, and each that is missed may cost
        // a poll. On a busy machine a root future may have waited for a CPU, which proves nothing,
        // but then its poll is possible.
        let switches = report.summary.lost.map_or(0, |lost| lost.switches);
        let possible = report.summary.possible_long_polls.unwrap_or_default();
        ensure!(
            missed.len() as u64 <= switches + possible && missed.len() * 2 <= long.len(),
            "{scenario}, {build:?}: of {} polls {missed:?} were missed; {switches} switches, {possible} possible",
            long.len()
        );
        ensure!(
            long.len() >= FEWEST,
            "{scenario}: only {} polls waited",
            long.len()
        );
        named(&ended)?;
    }
    println!(
        "{scenario}, {:?}, stripped: {}: {} reported, {} waited, {:?} possible",
        build.profile,
        build.stripped,
        ended.len(),
        long.len(),
        report.summary.possible_long_polls
    );
    nothing_is_counted(&report)
}

/// Each poll that waited has its task's type and its cause.
fn named(polls: &[&LongPoll]) -> Result<()> {
    let waited = polls.iter().filter(|poll| {
        poll.split
            .is_some_and(|split| split.blocked_ns >= THRESHOLD_NS)
    });
    for poll in waited {
        ensure!(!poll.task.name.contains("unknown"), "no type: {poll:?}");
        let split = poll.split.unwrap_or_default();
        if split.runnable_ns >= split.blocked_ns / 2 {
            // On a busy machine, waiting for a CPU after the sleep may be the cause.
            continue;
        }
        let cause = poll.diagnosis.as_ref().map(|found| found.cause);
        ensure!(cause == Some(Cause::Sleep), "{cause:?}: {poll:?}");
    }
    Ok(())
}

/// What is not known is null and not 0.
fn nothing_is_counted(report: &Report) -> Result<()> {
    let summary = &report.summary;
    ensure!(summary.possible_long_polls.is_some(), "{summary:?}");
    let counted = [
        summary.polls,
        summary.blocking_polls,
        summary.p50_ns,
        summary.p99_ns,
        summary.max_ns,
        summary.workers,
    ];
    ensure!(counted.iter().all(Option::is_none), "{summary:?}");
    ensure!(
        summary.tasks.iter().all(|task| task.polls.is_none()),
        "{summary:?}"
    );
    Ok(())
}

#[test]
fn polls_that_wait_are_certain() -> Result<()> {
    for scenario in ["sleep", "root", "root_multi", "current_thread", "join_set"] {
        check(Build::DEFAULT, &waits(scenario))?;
    }
    Ok(())
}

#[test]
fn polls_that_wait_are_certain_in_stripped_programs_and_with_fat_lto() -> Result<()> {
    let fat = Build {
        profile: Profile::Fat,
        ..Build::DEFAULT
    };
    check(Build::DEFAULT.stripped(), &waits("sleep"))?;
    check(fat.stripped(), &waits("sleep"))?;
    check(fat, &waits("current_thread"))
}

#[test]
fn nothing_false_is_said_of_polls_that_compute_or_nest() -> Result<()> {
    for scenario in ["cpu", "nested", "local_set", "block_in_place", "hogs"] {
        check(Build::DEFAULT, &computes(scenario))?;
    }
    check(Build::DEFAULT.stripped(), &computes("nested"))
}

#[test]
fn a_poll_that_computes_is_possible() -> Result<()> {
    take_machine!();
    let (truth, report) = scenario::run(Build::DEFAULT, "cpu", &WATCH)?;
    let long = truth
        .iter()
        .filter(|poll| poll.kind == "async" && poll.duration_ns() >= THRESHOLD_NS);
    let long = long.count() as u64;
    let summary = &report.summary;
    let seen = summary.possible_long_polls.unwrap_or_default() + summary.long_polls;
    ensure!(seen * 10 >= long * 9, "{seen} of {long}: {summary:?}");
    Ok(())
}
