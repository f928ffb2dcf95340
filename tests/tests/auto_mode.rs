//! Sessions that watch, and place exact probes for a while where a poll was long or may have been:
//! held against the target's own record of its polls.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{LongPoll, Mode, TaskKind};
use loopprobe_tests::{
    accuracy::TOLERANCE_NS,
    halve_machine,
    matrix::Build,
    scenario::{THRESHOLD_NS, gated, observe},
    session::{Report, Session},
    text::{changed_bytes, until_clean},
    truth::Poll,
};

const AUTO: [&str; 2] = ["--mode", "auto"];
/// With fewer polls nothing is shown.
const FEWEST: usize = 20;

fn end_ns(poll: &LongPoll) -> u64 {
    poll.start_ns + poll.duration_ns
}

/// When a remark with this text was made.
fn time_of(report: &Report, text: &str) -> Result<u64> {
    let mut notices = report.notices.iter();
    let notice = notices.find(|notice| notice.message.contains(text));
    let notice = notice.with_context(|| format!("no {text:?}: {:?}", report.notices))?;
    Ok(notice.time_ns)
}

/// No time of a thread is told twice.
fn nothing_is_told_twice(polls: &[&LongPoll]) -> Result<()> {
    let mut polls = polls.to_vec();
    polls.sort_by_key(|poll| (poll.tid, poll.start_ns));
    for pair in polls.windows(2) {
        let [one, next] = pair else { continue };
        ensure!(
            one.tid != next.tid || end_ns(one) <= next.start_ns,
            "told twice: {one:?}, {next:?}"
        );
    }
    Ok(())
}

/// The true poll that a report tells of.
fn true_poll<'a>(report: &LongPoll, truth: &'a [Poll]) -> Option<&'a Poll> {
    let common = |poll: &Poll| {
        end_ns(report)
            .min(poll.end_ns)
            .saturating_sub(report.start_ns.max(poll.start_ns))
    };
    truth.iter().find(|poll| {
        poll.kind == "async" && poll.tid == report.tid && common(poll) * 2 > report.duration_ns
    })
}

/// While there are probes, every long poll of a task is told of, exactly and once.
fn check(build: Build, scenario: &[&str]) -> Result<()> {
    check_within(build, scenario, TOLERANCE_NS)
}

/// The same with durations that may be off by so much, in the middle.
fn check_within(build: Build, scenario: &[&str], tolerance_ns: u64) -> Result<()> {
    halve_machine!();
    let mut target = gated(build, "truth", scenario)?;
    let (truth, report) = observe(&mut target, &AUTO)?;
    until_clean(target.pid())?;
    ensure!(report.head.mode == Some(Mode::Auto) && report.head.sites == 0);
    let from_ns = time_of(&report, "probes for 10 s")?;
    let to_ns = time_of(&report, "the probes are gone")?;
    let ended = report.ended();
    nothing_is_told_twice(&ended)?;
    let tasks = ended
        .iter()
        .filter(|poll| poll.task.kind == TaskKind::Async);
    let exact: Vec<&&LongPoll> = tasks.filter(|poll| poll.bounds.is_none()).collect();
    let within = |poll: &&Poll| poll.start_ns >= from_ns && poll.end_ns <= to_ns;
    let long = truth
        .iter()
        .filter(|poll| poll.kind == "async" && poll.duration_ns() >= THRESHOLD_NS + TOLERANCE_NS);
    let long: Vec<&Poll> = long.filter(within).collect();
    let matches: Vec<_> = exact
        .iter()
        .filter_map(|report| Some((**report, true_poll(report, &truth)?)))
        .collect();
    let missed: Vec<_> = long
        .iter()
        .filter(|poll| {
            !matches
                .iter()
                .any(|(_, found)| std::ptr::eq(*found, **poll))
        })
        .collect();
    ensure!(missed.is_empty(), "{scenario:?}: not told: {missed:?}");
    ensure!(long.len() >= FEWEST, "only {} long polls", long.len());
    // A poll that lost its CPU beside the target's own clock is in no poll of its record.
    ensure!(
        matches.len() * 20 >= exact.len() * 19,
        "{} of {} reports are of no poll",
        exact.len() - matches.len(),
        exact.len()
    );
    let errors = matches
        .iter()
        .map(|(report, poll)| report.duration_ns.abs_diff(poll.duration_ns()));
    let mut errors: Vec<u64> = errors.collect();
    errors.sort_unstable();
    let error = errors[errors.len() / 2];
    ensure!(error <= tolerance_ns, "durations are off by {error} ns");
    let looks = report
        .summary
        .looks
        .as_deref()
        .copied()
        .context("no looks")?;
    println!(
        "{scenario:?}: {} long polls told, off by {error} ns; {looks:?}",
        long.len()
    );
    ensure!(looks.count == 1 && looks.most_sites > 0, "{looks:?}");
    ensure!(
        looks.long_polls == exact.len() as u64,
        "{looks:?}, {} told",
        exact.len()
    );
    ensure!(looks.polls >= looks.long_polls, "{looks:?}");
    Ok(())
}

#[test]
fn computing_polls_are_timed_exactly_for_a_while() -> Result<()> {
    check(Build::DEFAULT, &["cpu", "--rounds", "500"])?;
    check(Build::DEFAULT.stripped(), &["cpu", "--rounds", "500"])
}

#[test]
fn polls_that_wait_are_timed_exactly_too_and_told_once() -> Result<()> {
    check(Build::DEFAULT, &["sleep", "--rounds", "150"])
}

/// Of a task that is gone when its stack is looked at, watching knows the number alone. Its only
/// poll also ends it: who waits for it is woken, which the target's record leaves out.
#[test]
fn polls_of_tasks_that_end_at_once_are_told_once() -> Result<()> {
    const TO_END_A_TASK_NS: u64 = 100_000;
    let scenario = ["fleeting", "--rounds", "300"];
    check_within(Build::DEFAULT, &scenario, TO_END_A_TASK_NS)
}

/// On a runtime of one thread, what lies between polls is the root future's only if all tasks are
/// probed.
#[test]
fn no_root_future_is_made_up_where_few_tasks_are_probed() -> Result<()> {
    halve_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["local_set", "--rounds", "100"])?;
    let (truth, report) = observe(&mut target, &AUTO)?;
    time_of(&report, "probes for 10 s")?;
    let roots = report
        .polls
        .iter()
        .filter(|poll| poll.task.kind == TaskKind::Root);
    for root in roots {
        let is_there = truth.iter().any(|poll| {
            poll.kind == "root"
                && poll.tid == root.tid
                && poll.start_ns < end_ns(root)
                && root.start_ns < poll.end_ns
        });
        ensure!(is_there, "no such root future: {root:?}");
    }
    nothing_is_told_twice(&report.ended())
}

#[test]
fn without_a_long_poll_no_probe_is_placed() -> Result<()> {
    halve_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["short"])?;
    let args = ["--mode", "auto", "--threshold", "5s"];
    let (_, report) = observe(&mut target, &args)?;
    ensure!(changed_bytes(target.pid())? == 0, "the text is changed");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid()))?;
    ensure!(!maps.contains("[uprobes]"), "there was a probe: {maps}");
    let looks = report
        .summary
        .looks
        .as_deref()
        .copied()
        .context("no looks")?;
    ensure!(looks.count == 0 && report.polls.is_empty(), "{report:?}");
    Ok(())
}

/// Ended in the middle of it, in whichever way, no probe is left.
#[test]
fn an_end_while_there_are_probes_leaves_none() -> Result<()> {
    halve_machine!();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
        let mut target = gated(Build::DEFAULT, "truth", &["cpu", "--rounds", "500"])?;
        let mut session = Session::attach(target.pid(), &AUTO)?;
        target.send("go")?;
        while session.next_poll(Duration::from_secs(30))?.bounds.is_some() {}
        ensure!(changed_bytes(target.pid())? > 0, "there is no probe");
        session.signal(signal);
        if signal == libc::SIGKILL {
            drop(session);
        } else {
            session.finish()?;
        }
        until_clean(target.pid())?;
    }
    Ok(())
}
