//! Another event loop than Tokio: a C program with a loop of its own is found, timed, named and
//! reported. All that knows of it is one file, `tests/src/toy.rs`, behind the traits of
//! `loopprobe::runtime`.

use std::{
    fs, io,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{
    collect::{ObserveError, Observer, Options, Stop},
    model::{Cause, Event, LongPoll, Mode, Session, Sink, Summary},
    report::{TextOptions, TextSink},
};
use loopprobe_tests::{
    matrix::{root, target_dir},
    share_machine,
    target::Target,
    toy,
};
use serde::Deserialize;

const THRESHOLD: Duration = Duration::from_millis(5);
/// What the program asks for, and no turn of it can take less.
const READ_DISK_NS: u64 = 30_000_000;
const CRUNCH_NS: u64 = 25_000_000;
/// The probes' own time, a few microseconds, is taken off what they measure.
const DEAD_NS: u64 = 100_000;
const ROUNDS: usize = 20;

/// The program's own record of a turn.
#[derive(Debug, Deserialize)]
struct Turn {
    task: String,
    start_ns: u64,
    end_ns: u64,
}

/// What a session said.
struct Report {
    head: Session,
    polls: Vec<LongPoll>,
    summary: Summary,
    text: String,
}

#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Event>>>);

impl Sink for Events {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }
}

/// Compiles the loop; `name` tells the results of different `flags` apart.
fn compiled(name: &str, flags: &[&str]) -> Result<PathBuf> {
    let folder = target_dir().join("toy");
    fs::create_dir_all(&folder)?;
    let program = folder.join(name);
    let status = Command::new("cc")
        .args(["-O2", "-rdynamic", "-Wall", "-Werror"])
        .args(flags)
        .arg(root().join("tests/targets/toy/loop.c"))
        .arg("-o")
        .arg(&program)
        .status()
        .context("the C compiler, cc")?;
    ensure!(status.success(), "cc: {status}");
    Ok(program)
}

fn options(pid: u32, mode: Mode) -> Options {
    Options {
        runtimes: toy::RUNTIMES,
        threshold: THRESHOLD,
        mode,
        ..Options::new(pid)
    }
}

/// Observes while the program takes its turns.
fn observe(target: &mut Target, mode: Mode) -> Result<(Report, Vec<Turn>)> {
    let observer = Observer::attach(&options(target.pid(), mode))?;
    let stop = Stop::new()?;
    let (sink, stopper) = (Events::default(), stop.clone());
    let (turns, summary) = thread::scope(|scope| {
        let work = scope.spawn(move || {
            let turns = turns(target);
            stopper.trigger();
            turns
        });
        let summary = observer.run(&mut sink.clone(), &stop);
        (work.join().unwrap(), summary)
    });
    let events = sink.0.lock().unwrap();
    Ok((Report::of(&events, summary?)?, turns?))
}

/// Lets the program work and reads its record.
fn turns(target: &mut Target) -> Result<Vec<Turn>> {
    target.send("go")?;
    let lines = target.until("end", Duration::from_mins(1))?;
    let turns = lines.into_iter().filter(|line| line["type"] == "turn");
    let turns = turns.map(serde_json::from_value).collect::<Result<_, _>>();
    Ok(turns?)
}

impl Report {
    fn of(events: &[Event], summary: Summary) -> Result<Self> {
        let mut written = Vec::new();
        let mut text = TextSink::new(&mut written, TextOptions::default());
        for event in events {
            text.event(event)?;
        }
        drop(text);
        let head = events.iter().find_map(|event| match event {
            Event::Session(head) => Some(head.clone()),
            _ => None,
        });
        let polls = events.iter().filter_map(|event| match event {
            Event::LongPoll(poll) => Some(poll.clone()),
            _ => None,
        });
        Ok(Self {
            head: head.context("a head")?,
            polls: polls.collect(),
            summary,
            text: String::from_utf8(written)?,
        })
    }

    /// The causes of a task's turns but of those that waited for a CPU most of the time: another
    /// program has made them long.
    fn causes(&self, task: &str) -> Vec<Cause> {
        let is_own = |poll: &&LongPoll| {
            let split = poll.split.unwrap_or_default();
            poll.task.name == task && split.runnable_ns * 2 < poll.duration_ns
        };
        let polls = self.polls.iter().filter(is_own);
        polls
            .filter_map(|poll| Some(poll.diagnosis.as_ref()?.cause))
            .collect()
    }
}

/// Holds every long poll against the program's record: each belongs to one turn and lies within it,
/// and none is missing.
fn check_times(report: &Report, turns: &[Turn], light: bool) -> Result<()> {
    let mut found = 0;
    for (index, turn) in turns.iter().enumerate() {
        // Timed by entries alone, a turn ends where its thread waits next, which is before the next
        // turn.
        let end_ns = match turns.get(index + 1) {
            Some(next) if light => next.start_ns,
            _ => turn.end_ns,
        };
        let inside = |poll: &&LongPoll| (turn.start_ns..end_ns).contains(&poll.start_ns);
        let polls: Vec<_> = report.polls.iter().filter(inside).collect();
        let least_ns = match turn.task.as_str() {
            "read_disk" => READ_DISK_NS,
            "crunch" => CRUNCH_NS,
            _ => 0,
        };
        ensure!(
            polls.len() == 1 || (least_ns == 0 && polls.is_empty()),
            "{turn:?}: {polls:?}"
        );
        for poll in polls {
            let poll_end_ns = poll.start_ns + poll.duration_ns;
            ensure!(poll_end_ns <= end_ns + DEAD_NS, "{turn:?}: {poll:?}");
            ensure!(poll.duration_ns + DEAD_NS >= least_ns, "{turn:?}: {poll:?}");
            ensure!(poll.task.name == turn.task, "{turn:?}: {poll:?}");
            found += 1;
        }
    }
    ensure!(found == report.polls.len(), "{:?}", report.polls);
    Ok(())
}

fn check(name: &str, flags: &[&str], mode: Mode) -> Result<()> {
    let program = compiled(name, flags)?;
    let mut target = Target::start(&program, &[])?;
    let (report, turns) = observe(&mut target, mode)?;
    println!("{}", report.text);
    ensure!(turns.len() == 3 * ROUNDS, "{turns:?}");
    check_times(&report, &turns, mode == Mode::Light)?;
    ensure!(
        report.summary.polls == Some(turns.len() as u64),
        "{:?}",
        report.summary
    );
    for (task, cause) in [("read_disk", Cause::Sleep), ("crunch", Cause::Cpu)] {
        let causes = report.causes(task);
        ensure!(causes.iter().all(|found| *found == cause), "{causes:?}");
    }
    ensure!(report.head.runtimes == ["Toy 1"], "{:?}", report.head);
    ensure!(report.head.tokio.is_empty(), "{:?}", report.head);
    let lost = report.summary.lost.as_ref().context("what was lost")?;
    ensure!(lost.unknown_types == 0 && lost.events == 0, "{lost:?}");
    for said in ["Toy 1", "read_disk", "set a timer of the loop"] {
        ensure!(report.text.contains(said), "{said}: {}", report.text);
    }
    // What is true of Tokio only is not said.
    for unsaid in [
        "tokio",
        "Tokio",
        "block_on",
        "current_thread",
        "multi_thread",
    ] {
        ensure!(!report.text.contains(unsaid), "{unsaid}: {}", report.text);
    }
    Ok(())
}

#[test]
fn turns_are_timed_and_named() -> Result<()> {
    share_machine!();
    check("loop", &[], Mode::Exact)
}

#[test]
fn a_stripped_program_is_found_by_what_it_exports() -> Result<()> {
    share_machine!();
    check("loop-stripped", &["-s"], Mode::Exact)
}

#[test]
fn turns_are_timed_by_their_entries_alone() -> Result<()> {
    share_machine!();
    check("loop-light", &[], Mode::Light)
}

#[test]
fn a_turn_that_is_open_at_the_attach_is_found() -> Result<()> {
    share_machine!();
    let program = compiled("loop-stuck", &[])?;
    let target = Target::start(&program, &["30000"])?;
    let options = Options {
        duration: Some(Duration::from_secs(2)),
        ..options(target.pid(), Mode::Exact)
    };
    let sink = Events::default();
    let summary = Observer::attach(&options)?.run(&mut sink.clone(), &Stop::new()?)?;
    let report = Report::of(&sink.0.lock().unwrap(), summary)?;
    println!("{}", report.text);
    let poll = report.polls.first().context("a stuck turn")?;
    ensure!(poll.since_before_attach && !poll.ended, "{poll:?}");
    let diagnosis = poll.diagnosis.as_ref().context("a diagnosis")?;
    ensure!(diagnosis.cause == Cause::Sleep, "{diagnosis:?}");
    ensure!(
        diagnosis.advice.contains("a timer of the loop"),
        "{diagnosis:?}"
    );
    Ok(())
}

#[test]
fn only_what_is_asked_for_is_looked_for() -> Result<()> {
    share_machine!();
    let program = compiled("loop-unknown", &[])?;
    let target = Target::start(&program, &[])?;
    let refused = Observer::attach(&Options::new(target.pid()));
    ensure!(
        matches!(refused, Err(ObserveError::NoTokio { .. })),
        "Tokio was found"
    );
    Ok(())
}

#[test]
fn a_loop_without_words_for_its_threads_is_not_watched() -> Result<()> {
    share_machine!();
    let target = Target::start(&compiled("loop", &[])?, &[])?;
    let refused = Observer::attach(&options(target.pid(), Mode::Watch));
    let said = refused.err().context("it was watched")?.to_string();
    ensure!(said.contains("cannot be watched without probes"), "{said}");
    ensure!(said.contains("--mode exact"), "no way out: {said}");
    Ok(())
}
