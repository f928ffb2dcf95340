//! One load of the kernel side for several processes: none is told what is another's, and what one
//! has left is the next one's from the beginning.

use std::{
    fs, io,
    sync::{Arc, Mutex, mpsc::channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{
    attach::Loads,
    collect::{Observer, Options, Stop},
    model::{Event, LongPoll, Mode, Sink, Summary},
};
use loopprobe_tests::{
    matrix::Build,
    scenario::{THRESHOLD_NS, gated, since},
    take_machine,
    target::Target,
    truth::Poll,
};

/// Keeps long polls that have ended.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<LongPoll>>>);

impl Sink for Kept {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Event::LongPoll(poll) = event
            && poll.ended
        {
            self.0.lock().unwrap().push(poll.clone());
        }
        Ok(())
    }
}

/// A session in a thread of its own.
struct Running {
    start_ns: u64,
    stop: Stop,
    kept: Kept,
    thread: JoinHandle<Result<Summary>>,
}

impl Running {
    fn start(loads: &Arc<Loads>, pid: u32, mode: Mode) -> Result<Self> {
        let options = Options {
            mode,
            loads: Some(Arc::clone(loads)),
            ..Options::new(pid)
        };
        let (stop, kept) = (Stop::new()?, Kept::default());
        let (theirs, mut sink) = (stop.clone(), kept.clone());
        let (attached, start_ns) = channel();
        let thread = thread::spawn(move || {
            let observer = Observer::attach(&options)?;
            attached.send(observer.session().start_ns)?;
            Ok(observer.run(&mut sink, &theirs)?)
        });
        let Ok(start_ns) = start_ns.recv() else {
            let refused = thread.join().expect("no panic");
            return Err(refused.err().context("a session that did not begin")?);
        };
        Ok(Self {
            start_ns,
            stop,
            kept,
            thread,
        })
    }

    fn end(self) -> Result<(Summary, Vec<LongPoll>)> {
        self.stop.trigger();
        let summary = self.thread.join().expect("no panic")?;
        let kept = self.kept.0.lock().unwrap().clone();
        Ok((summary, kept))
    }
}

/// How many tables of the kernel side this process has.
fn maps() -> Result<usize> {
    let links = fs::read_dir("/proc/self/fd")?;
    let links = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let maps = links.filter(|link| link.to_string_lossy().contains("bpf-map"));
    Ok(maps.count())
}

/// The same once those are gone that it took to measure what a probe costs.
fn maps_in_the_end() -> Result<usize> {
    loop {
        let before = maps()?;
        thread::sleep(Duration::from_millis(700));
        if maps()? == before {
            return Ok(before);
        }
    }
}

/// How many long polls must be told, and how many may be: watching tells a poll by what is certain
/// of its duration, and from outside it is a little longer than its own clock says.
fn long(truth: &[Poll]) -> (u64, u64) {
    const CLOSE_NS: u64 = 500_000;
    let of = |least_ns: u64| {
        let is_long = |poll: &&Poll| poll.kind == "async" && poll.duration_ns() >= least_ns;
        truth.iter().filter(is_long).count() as u64
    };
    (of(THRESHOLD_NS + CLOSE_NS), of(THRESHOLD_NS - CLOSE_NS))
}

/// Two processes of the same program, which work at the same time.
fn check(mode: Mode) -> Result<()> {
    take_machine!();
    let loads = Arc::<Loads>::default();
    let mut targets = [
        gated(Build::DEFAULT, "truth", &["short"])?,
        gated(Build::DEFAULT, "truth", &["sleep"])?,
    ];
    let first = Running::start(&loads, targets[0].pid(), mode)?;
    let before = maps_in_the_end()?;
    let second = Running::start(&loads, targets[1].pid(), mode)?;
    ensure!(before > 10 && maps()? == before, "{before}, {}", maps()?);
    let mut truths: Vec<Vec<Poll>> = thread::scope(|scope| {
        let works = targets
            .each_mut()
            .map(|target| scope.spawn(|| target.work()));
        works
            .into_iter()
            .map(|work| work.join().expect("no panic"))
            .collect::<Result<_>>()
    })?;
    for ((session, truth), target) in [first, second].into_iter().zip(&mut truths).zip(&targets) {
        since(truth, session.start_ns);
        let (summary, told) = session.end()?;
        ensure!(
            told.iter().all(|poll| poll.pid == target.pid()),
            "{told:#?}"
        );
        let lost = summary.lost.as_ref().context("what was lost is known")?;
        ensure!(lost.events == 0 && lost.unknown_types == 0, "{lost:?}");
        let polls = truth.iter().filter(|poll| poll.kind == "async").count() as u64;
        let (least, most) = long(truth);
        println!("{mode:?}: {polls} polls, {least} to {most} of them long; told {summary:?}");
        if mode == Mode::Exact {
            ensure!(summary.polls == Some(polls), "{polls}: {:?}", summary.polls);
        }
        let found = told.len() as u64;
        ensure!(
            (least..=most).contains(&found),
            "{found}, {least} to {most}: {told:#?}"
        );
        let canary = summary.canary.as_ref();
        ensure!(canary.is_none_or(|canary| canary.failed == 0), "{canary:?}");
    }
    Ok(())
}

#[test]
fn two_processes_of_one_program_are_told_apart() -> Result<()> {
    check(Mode::Exact)
}

#[test]
fn two_processes_of_one_program_are_told_apart_by_entries_alone() -> Result<()> {
    check(Mode::Light)
}

#[test]
fn two_processes_of_one_program_are_watched_apart() -> Result<()> {
    check(Mode::Watch)
}

#[test]
fn a_place_that_was_left_is_as_good_as_new() -> Result<()> {
    take_machine!();
    // More than there are places.
    const SESSIONS: u32 = 70;
    const SHORT: Duration = Duration::from_millis(50);
    let loads = Arc::<Loads>::default();
    let (steady, other) = (Target::busy("pace", 1_000)?, Target::busy("pace", 1_000)?);
    let all = Running::start(&loads, steady.pid(), Mode::Exact)?;
    let before = maps_in_the_end()?;
    for session in 0..SESSIONS {
        let one = Running::start(&loads, other.pid(), Mode::Exact)?;
        ensure!(maps()? == before, "session {session} has a load of its own");
        thread::sleep(SHORT);
        let (summary, _) = one.end()?;
        let (polls, ns) = (summary.polls.unwrap_or(0), summary.duration_ns);
        let rate = polls as f64 / (ns as f64 / 1e9);
        ensure!(
            (300.0..1_100.0).contains(&rate),
            "session {session}: {rate} polls a second: {summary:#?}"
        );
    }
    let (summary, _) = all.end()?;
    let rate = summary.polls.unwrap_or(0) as f64 / (summary.duration_ns as f64 / 1e9);
    ensure!((500.0..1_050.0).contains(&rate), "{rate}: {summary:#?}");
    let lost = summary.lost.as_ref().context("what was lost is known")?;
    ensure!(lost.events == 0 && lost.unknown_types == 0, "{lost:?}");
    Ok(())
}
