//! Values over time, and what is found wrong with a loop as a whole, against the target's own
//! record.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{
    model::{Event, Finding, FindingKind, Interval},
    recording::Reader,
};
use loopprobe_tests::{
    folder::Folder,
    halve_machine,
    matrix::{Build, loopprobe, target},
    session::{Report, Session},
    target::Target,
    truth::Poll,
};

const MS: u64 = 1_000_000;

/// How many milliseconds each scenario works.
const MILLIS: &str = "5000";

fn start(scenario: &str, build: Build) -> Result<Target> {
    // If it had to be built only after the target has started, the target would be over.
    loopprobe()?;
    let program = target(build, "health")?;
    let args = [scenario, "--gate", "before", "--millis", MILLIS, "--hold"];
    Target::start(&program, &args)
}

/// A session over all of a scenario's work, and the target's own polls.
fn watched(scenario: &str, build: Build, args: &[&str]) -> Result<(Report, Vec<Poll>)> {
    let mut target = start(scenario, build)?;
    let session = Session::attach(target.pid(), args)?;
    let truth = target.work()?;
    Ok((session.interrupt()?, truth))
}

/// How much of an interval a thread spent in polls, as the target says.
fn true_share(interval: &Interval, tid: u32, truth: &[Poll]) -> f64 {
    let (start, end) = (interval.time_ns - interval.duration_ns, interval.time_ns);
    let polls = truth.iter().filter(|p| p.tid == tid && p.kind == "async");
    let ns: u64 = polls
        .map(|p| p.end_ns.min(end).saturating_sub(p.start_ns.max(start)))
        .sum();
    ns as f64 / interval.duration_ns as f64
}

fn busy_shares_are_the_targets(report: &Report, truth: &[Poll]) -> Result<()> {
    ensure!(report.intervals.len() >= 4, "{:?}", report.intervals);
    let mut busiest = 0.0_f64;
    for interval in &report.intervals {
        for worker in &interval.workers {
            let share = true_share(interval, worker.tid, truth);
            busiest = busiest.max(share);
            // A poll is a little longer from outside. A thread that waits for its CPU at a poll's
            // edge is why it is not less.
            ensure!(
                (worker.busy - share).abs() < 0.03,
                "{share} is {}: {interval:?}",
                worker.busy
            );
        }
    }
    ensure!(busiest > 0.15, "the target was idle");
    Ok(())
}

/// It polls other tasks too before it parks, and may wait for a CPU.
fn the_longest_time_awake_is_that_of_the_longest_poll(
    report: &Report,
    truth: &[Poll],
) -> Result<()> {
    let polls = truth.iter().filter(|p| p.kind == "async");
    let poll = polls.map(Poll::duration_ns).max().context("a poll")?;
    let workers = report.intervals.iter().flat_map(|i| &i.workers);
    let awake = workers.map(|w| w.longest_ns).max().context("a worker")?;
    ensure!(awake >= poll && awake < poll + 50 * MS, "{awake} of {poll}");
    Ok(())
}

/// For each long poll of the blocker: how long after its beginning the next timer fired, although
/// one was due in it every 10 ms. Only where that was more than one such time.
fn late(truth: &[Poll]) -> Vec<(u64, u64)> {
    let timers = |from: u64| {
        let polls = truth.iter().filter(|p| p.label == "drift");
        polls.map(|p| p.start_ns).filter(move |ns| *ns > from).min()
    };
    let blocks = truth
        .iter()
        .filter(|p| p.label == "blocker" && p.duration_ns() > 20 * MS);
    blocks
        .filter_map(|p| Some((p.start_ns, timers(p.start_ns)?)))
        .filter(|(start, fired)| fired - start > 15 * MS)
        .collect()
}

/// The longest one of an interval, where its end is not too near one of the ends of the interval to
/// tell which it belongs to.
fn latest(interval: &Interval, late: &[(u64, u64)]) -> Option<u64> {
    let (start, end) = (interval.time_ns - interval.duration_ns, interval.time_ns);
    let is_near = |edge: u64| {
        late.iter()
            .any(|(from, to)| (from - 5 * MS..to + 5 * MS).contains(&edge))
    };
    if is_near(start) || is_near(end) {
        return None;
    }
    let within = late
        .iter()
        .filter(|(_, fired)| (start..end).contains(fired));
    within.map(|(from, fired)| fired - from).max()
}

/// How far each interval's driver lag is from the target's own.
fn errors(report: &Report, truth: &[Poll]) -> Result<Vec<i64>> {
    let late = late(truth);
    let mut errors = Vec::new();
    for interval in &report.intervals {
        let Some(truth) = latest(interval, &late) else {
            continue;
        };
        let lag = interval.driver_lag_ns.context("a driver is turned")?;
        ensure!(lag.mean <= lag.max, "{interval:?}");
        errors.push(lag.max as i64 - truth as i64);
    }
    println!("errors of the driver lag in ns: {errors:?}");
    Ok(errors)
}

/// On one thread the driver lag is how late timers are. A timer fires a little after the driver is
/// turned; a thread that waits for its CPU then makes that more, so one in four may be off by more
/// than a millisecond.
#[test]
fn on_one_thread_the_driver_lag_is_the_timers_drift() -> Result<()> {
    halve_machine!();
    let stripped = Build::DEFAULT.stripped();
    for (build, more) in [(Build::DEFAULT, None), (stripped, Some("--light"))] {
        let args: Vec<&str> = ["--interval", "500ms"].into_iter().chain(more).collect();
        let (report, truth) = watched("lag", build, &args)?;
        busy_shares_are_the_targets(&report, &truth)?;
        the_longest_time_awake_is_that_of_the_longest_poll(&report, &truth)?;
        let errors = errors(&report, &truth)?;
        let good = errors.iter().filter(|e| e.unsigned_abs() <= MS).count();
        ensure!(
            errors.len() >= 3 && good * 4 >= errors.len() * 3,
            "{errors:?}"
        );
    }
    Ok(())
}

/// Of several workers the one that turned the driver blocks, and the other one may or may not turn
/// it meanwhile.
#[test]
fn on_many_threads_the_driver_lag_is_the_timers_drift_too() -> Result<()> {
    halve_machine!();
    let (report, truth) = watched("lag_multi", Build::DEFAULT, &["--interval", "500ms"])?;
    busy_shares_are_the_targets(&report, &truth)?;
    let errors = errors(&report, &truth)?;
    let good = errors.iter().filter(|e| e.unsigned_abs() <= 2 * MS).count();
    ensure!(good * 4 >= errors.len() * 3, "{errors:?}");
    Ok(())
}

#[test]
fn without_an_interval_there_are_none() -> Result<()> {
    halve_machine!();
    let target = start("sleepers", Build::DEFAULT)?;
    let session = Session::attach(target.pid(), &["--duration", "1s"])?;
    ensure!(session.finish()?.intervals.is_empty());
    Ok(())
}

/// The recording has them, and the report of it says them again in the same words.
#[test]
fn a_recording_gives_the_same_intervals() -> Result<()> {
    halve_machine!();
    let folder = Folder::new("intervals")?;
    let path = folder.path().join("session.lpr");
    let mut target = start("lag", Build::DEFAULT)?;
    let file = path.to_str().context("a path")?;
    let session = Session::attach(target.pid(), &["--interval", "300ms", "--record", file])?;
    target.send("go")?;
    thread::sleep(Duration::from_secs(2));
    let report = session.interrupt()?;
    ensure!(report.intervals.len() >= 5, "{:?}", report.intervals);
    let recorded: Vec<Interval> = Reader::new(fs::File::open(&path)?)?
        .filter_map(|event| match event {
            Ok(Event::Interval(interval)) => Some(interval),
            _ => None,
        })
        .collect();
    ensure!(recorded == report.intervals);
    let said = Command::new(loopprobe()?)
        .arg("report")
        .arg(&path)
        .output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let lines = said.lines().filter(|line| line.contains("interval "));
    ensure!(lines.count() == recorded.len(), "{said}");
    ensure!(
        said.contains("1 worker busy ") && said.contains("driver lag "),
        "{said}"
    );
    Ok(())
}

fn of_kind(report: &Report, kind: FindingKind) -> Vec<&Finding> {
    let findings = report.findings.iter();
    findings.filter(|finding| finding.kind == kind).collect()
}

/// Each time that two workers of two block at once is found once, with both polls; where two more
/// workers have nothing to do, none is.
#[test]
fn all_workers_blocked_is_said_once_each_time_and_only_of_all_workers() -> Result<()> {
    const KIND: FindingKind = FindingKind::AllWorkersBlocked;
    halve_machine!();
    let (report, truth) = watched("blocked", Build::DEFAULT.stripped(), &[])?;
    // Four tasks share two workers, three times.
    let blocks = truth.iter().filter(|p| p.duration_ns() > 140 * MS);
    let blocks = blocks.count() / 4;
    let found = of_kind(&report, KIND);
    println!("{} of {blocks} times: {found:?}", found.len());
    // A thread that is not a worker may be on a CPU when it is looked at.
    ensure!(blocks == 3 && found.len() <= blocks && found.len() >= 2);
    for finding in &found {
        let evidence = &finding.evidence;
        let tids: Vec<u32> = evidence.polls.iter().map(|poll| poll.tid).collect();
        ensure!(tids.len() == 2 && tids[0] != tids[1], "{finding:?}");
        ensure!(
            evidence.workers == Some(2) && evidence.certain,
            "{finding:?}"
        );
        let is_known = truth.iter().any(|p| {
            p.tid == tids[0]
                && p.start_ns < evidence.since_ns + MS
                && p.end_ns + MS > evidence.since_ns + evidence.duration_ns
        });
        ensure!(is_known, "{finding:?}");
    }
    let counted = report
        .summary
        .findings
        .iter()
        .find(|count| count.kind == KIND);
    ensure!(counted.is_some_and(|count| count.count == found.len() as u64));
    let (report, truth) = watched("half", Build::DEFAULT.stripped(), &[])?;
    ensure!(truth.iter().any(|p| p.duration_ns() > 140 * MS));
    ensure!(of_kind(&report, KIND).is_empty(), "{:?}", report.findings);
    Ok(())
}

/// The worker that turned the driver blocks, and the other one is idle.
#[test]
fn a_driver_that_nobody_turns_is_found_with_the_poll_that_kept_it() -> Result<()> {
    halve_machine!();
    let (report, truth) = watched("lag_multi", Build::DEFAULT, &[])?;
    let found = of_kind(&report, FindingKind::DriverLag);
    let late = late(&truth);
    println!("{late:?}: {found:?}");
    if late.is_empty() {
        ensure!(found.is_empty(), "{found:?}");
        return Ok(());
    }
    let first = found.first().context("a finding")?;
    let poll = first.evidence.polls.first().context("a poll")?;
    let is_blocker = |p: &&Poll| p.label == "blocker" && p.start_ns.abs_diff(poll.start_ns) < MS;
    ensure!(
        truth.iter().any(|p| is_blocker(&p) && p.tid == poll.tid),
        "{first:?}"
    );
    let advice = poll.advice.as_ref().context("advice for the poll")?;
    ensure!(first.advice.ends_with(advice), "{first:?}");
    Ok(())
}

/// A deadlock from before the attach.
#[test]
fn a_deadlock_from_before_is_found_too() -> Result<()> {
    halve_machine!();
    let mut target = start("locked", Build::DEFAULT)?;
    target.send("go")?;
    thread::sleep(Duration::from_millis(500));
    let session = Session::attach(target.pid(), &["--duration", "4s"])?;
    let report = session.finish()?;
    let found = of_kind(&report, FindingKind::Deadlock);
    ensure!(found.len() == 1, "{:?}", report.findings);
    Ok(())
}

#[test]
fn a_task_that_wakes_itself_without_end_is_found_with_its_rate() -> Result<()> {
    halve_machine!();
    let mut target = start("spinner", Build::DEFAULT)?;
    let args = ["--duration", "6s"];
    let session = Session::attach(target.pid(), &args)?;
    target.send("go")?;
    let lines = target.until("task", Duration::from_secs(10))?;
    let id: u64 = lines.last().context("a line")?["id"]
        .as_str()
        .context("an id")?
        .parse()?;
    let lines = target.until("turns", Duration::from_secs(20))?;
    let turns = lines.last().context("a line")?["turns"]
        .as_u64()
        .context("a number")?;
    let report = session.finish()?;
    let found = of_kind(&report, FindingKind::BusyTask);
    ensure!(found.len() == 1, "{:?}", report.findings);
    let evidence = &found[0].evidence;
    let rate = evidence.polls_per_second.context("a rate")? as f64;
    let truth = turns as f64 / 5.0;
    println!(
        "{rate} a second of {truth}, {:?} of a worker",
        evidence.share
    );
    ensure!(evidence.task_id == Some(id), "{evidence:?}");
    // Before the attach it was faster, and a busy machine is slower at times.
    ensure!((0.3..3.0).contains(&(rate / truth)), "{rate} of {truth}");
    Ok(())
}

#[test]
fn of_a_loop_that_is_well_nothing_is_found() -> Result<()> {
    halve_machine!();
    let mut target = start("sleepers", Build::DEFAULT)?;
    target.send("go")?;
    let args = ["--threshold", "50ms", "--duration", "2s"];
    let report = Session::attach(target.pid(), &args)?.finish()?;
    ensure!(report.findings.is_empty(), "{:?}", report.findings);
    Ok(())
}

#[test]
fn a_deadlock_is_said_once_as_possible_and_a_hook_is_told() -> Result<()> {
    halve_machine!();
    let folder = Folder::new("findings")?;
    let file = folder.path().join("told");
    let command = format!(
        "test $LOOPPROBE_EVENT = finding && echo $LOOPPROBE_LEVEL $LOOPPROBE_TID \"$(cat)\" >> {}; true",
        file.display()
    );
    let mut target = start("locked", Build::DEFAULT)?;
    let session = Session::attach(target.pid(), &["--duration", "4s", "--on-alert", &command])?;
    target.send("go")?;
    let report = session.finish()?;
    let found = of_kind(&report, FindingKind::Deadlock);
    ensure!(found.len() == 1, "{:?}", report.findings);
    let evidence = &found[0].evidence;
    ensure!(
        !evidence.certain && evidence.polls.len() == 2,
        "{evidence:?}"
    );
    let told = fs::read_to_string(&file)?;
    let mut lines = told
        .lines()
        .filter(|line| line.contains(r#""kind":"deadlock""#));
    let line = lines.next().context("told")?;
    ensure!(lines.next().is_none(), "{told}");
    let start = format!("critical {} {{", found[0].evidence.polls[0].tid);
    ensure!(
        line.starts_with(&start) && line.contains(r#""type":"finding""#),
        "{told}"
    );
    Ok(())
}
