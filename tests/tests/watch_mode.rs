//! Sessions that watch threads instead of placing probes: held against the target's own record of
//! its polls.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Bounds, Cause, Event, LongPoll, Mode, TaskKind};
use loopprobe_tests::{
    halve_machine,
    matrix::{self, Build, Profile, target_dir},
    scenario::{self, THRESHOLD_NS, gated},
    session::{Report, Session},
    target::Target,
    text::changed_bytes,
    truth::Poll,
};

const WATCH: [&str; 2] = ["--mode", "watch"];
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
    halve_machine!();
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
    halve_machine!();
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

#[test]
fn nothing_of_the_target_is_changed() -> Result<()> {
    halve_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let session = Session::attach(target.pid(), &WATCH)?;
    ensure!(changed_bytes(target.pid())? == 0, "the text is changed");
    target.send("go")?;
    for _ in 0..10 {
        ensure!(changed_bytes(target.pid())? == 0, "the text is changed");
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid()))?;
        ensure!(!maps.contains("[uprobes]"), "there was a probe: {maps}");
        thread::sleep(Duration::from_millis(20));
    }
    let report = session.interrupt()?;
    ensure!(changed_bytes(target.pid())? == 0, "the text is changed");
    ensure!(!report.ended().is_empty(), "nothing was seen: {report:?}");
    Ok(())
}

/// From before the program executes, and told while it goes on.
#[test]
fn a_poll_of_a_program_that_was_started_is_told_while_it_waits() -> Result<()> {
    halve_machine!();
    let output = target_dir().join("watch-run.jsonl");
    let path = matrix::target(Build::DEFAULT, "stuck")?;
    let mut command = Command::new(matrix::loopprobe()?);
    command.args(["run", "--mode", "watch", "--format", "json", "--output"]);
    command.arg(&output).arg("--").arg(path);
    let said = command.args(["block", "--millis", "2500"]).output()?;
    let lines = std::fs::read_to_string(&output)?;
    let mut polls = Vec::new();
    for line in lines.lines() {
        if let Event::LongPoll(poll) = serde_json::from_str(line)? {
            polls.push(poll);
        }
    }
    let (open, ended): (Vec<_>, Vec<_>) = polls.iter().partition(|poll| !poll.ended);
    ensure!(!open.is_empty(), "not told meanwhile: {said:?}");
    let [poll] = ended[..] else {
        anyhow::bail!("not told once: {ended:?}");
    };
    ensure!(
        open.iter().all(|open| open.start_ns == poll.start_ns),
        "{open:?}"
    );
    ensure!(poll.duration_ns >= 2_500_000_000, "{poll:?}");
    ensure!(poll.task.name.contains("stuck::task"), "{poll:?}");
    Ok(())
}

#[test]
fn a_poll_from_before_the_attach_is_found() -> Result<()> {
    halve_machine!();
    let path = matrix::target(Build::DEFAULT, "stuck")?;
    let target = Target::start(&path, &["block", "--millis", "20000"])?;
    let mut session = Session::attach(target.pid(), &WATCH)?;
    let poll = session.next_poll(Duration::from_secs(30))?;
    ensure!(poll.since_before_attach && !poll.ended, "{poll:?}");
    ensure!(poll.task.name.contains("stuck::task"), "{poll:?}");
    session.interrupt()?;
    Ok(())
}

/// What `/metrics` of a session says, once it tells of a long poll.
fn scraped(port: u16) -> Result<String> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        if text.contains("\nloopprobe_long_polls_total{") {
            return Ok(text);
        }
        ensure!(Instant::now() < end, "no long poll: {text}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Figures of all polls are left out, and not 0.
#[test]
fn metrics_have_what_is_known() -> Result<()> {
    halve_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let args = [&WATCH[..], &["--metrics", &address]].concat();
    let session = Session::attach(target.pid(), &args)?;
    target.send("go")?;
    let text = scraped(port)?;
    session.interrupt()?;
    for known in ["blocked_seconds_total{", "possible_long_polls_total "] {
        ensure!(text.contains(&format!("\nloopprobe_{known}")), "{text}");
    }
    for unknown in ["polls_total", "poll_duration", "workers", "worker_busy"] {
        ensure!(!text.contains(&format!("\nloopprobe_{unknown}")), "{text}");
    }
    Ok(())
}

/// A session of `serve` watches where it is told to.
#[test]
fn serve_watches_if_it_is_told_to() -> Result<()> {
    halve_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let output = target_dir().join("watch-serve.jsonl");
    let mut command = Command::new(matrix::loopprobe()?);
    command.args(["serve", "--mode", "watch", "--format", "json", "--output"]);
    let command_line = format!("*{}*", matrix::target(Build::DEFAULT, "truth")?.display());
    command.arg(&output).args(["--command", &command_line]);
    let mut daemon = command.spawn()?;
    let result = (|| {
        let lines = || std::fs::read_to_string(&output).unwrap_or_default();
        until(|| lines().contains(r#""type":"session""#))?;
        ensure!(lines().contains(r#""mode":"watch""#), "{}", lines());
        ensure!(changed_bytes(target.pid())? == 0, "the text is changed");
        target.send("go")?;
        until(|| lines().contains(r#""type":"long_poll""#))
    })();
    daemon.kill()?;
    daemon.wait()?;
    result
}

fn until(is_so: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        ensure!(Instant::now() < end, "not in time");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What only counts of polls tell cannot be had.
#[test]
fn options_that_contradict_it_are_refused() -> Result<()> {
    for (options, reason) in [
        (
            &["--mode", "watch", "--threshold", "0"][..],
            "does not count polls",
        ),
        (
            &["--mode", "watch", "--threshold", "auto"],
            "does not count polls",
        ),
        (
            &["--mode", "watch", "--interval", "1s"],
            "does not count polls",
        ),
        (&["--mode", "watch", "--light"], "cannot be used with"),
        (&["--mode", "exact", "--light"], "cannot be used with"),
    ] {
        let mut command = Command::new(matrix::loopprobe()?);
        let output = command
            .args(["attach", "--pid", "1"])
            .args(options)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{options:?}: {said}");
        ensure!(said.contains(reason), "{options:?}: {said}");
    }
    Ok(())
}
