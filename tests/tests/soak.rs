//! A daemon that goes on for a while, over processes and tasks that come and go: what it takes does
//! not grow, and what it says is what the processes have counted themselves.
//!
//! `LOOPPROBE_SOAK` sets for how many seconds, 240 at the most.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    counted::{Count, at, counts, monotonic_ns},
    daemon::{Daemon, PATIENCE},
    folder::Folder,
    load_machine,
    matrix::{Build, target},
    target::Target,
};

/// Unless told otherwise.
const SECONDS: u64 = 24;
/// A target of ours ends by itself after 300 s.
const MOST_SECONDS: u64 = 240;
/// How much more memory it may have at the end than after the first third: what its tables and its
/// allocator round up to.
const SLACK_KIB: u64 = 6 << 10;
/// How far a count may be off.
const OFF: f64 = 0.01;
/// Figures are made once a second, and are seen up to so much later.
const LATE_NS: u64 = 1_000_000_000;

/// What the daemon takes at a moment.
#[derive(Clone, Copy, Debug)]
struct Taken {
    own_kib: u64,
    kernel_kib: u64,
    descriptors: usize,
    threads: usize,
}

impl Taken {
    fn by(daemon: &Daemon) -> Result<Self> {
        Ok(Self {
            own_kib: daemon.kib("RssAnon:")?,
            kernel_kib: daemon.map_bytes()? >> 10,
            descriptors: daemon.descriptors()?,
            threads: daemon.threads()?,
        })
    }
}

/// How many polls the daemon has counted, once that changes, and when it does.
fn counted(daemon: &Daemon, name: &str) -> Result<Count> {
    let end = Instant::now() + PATIENCE;
    let value = || daemon.samples().get(name).copied();
    let before = value();
    loop {
        match value() {
            Some(now) if before.is_some_and(|before| now > before) => {
                return Ok((monotonic_ns(), now));
            }
            _ => ensure!(Instant::now() < end, "{name} does not change"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// One that is there all the time, and what the daemon says of it.
struct Steady {
    target: Target,
    metric: String,
    first: Count,
}

impl Steady {
    /// `how` is a scenario of `busy`.
    fn start(how: &str, rounds: &str) -> Result<Self> {
        let program = target(Build::DEFAULT.stripped(), "busy")?;
        let args = [how, "--millis", "290000", "--rounds", rounds];
        let target = Target::start(&program, &args)?;
        let pid = target.pid();
        Ok(Self {
            metric: format!("loopprobe_polls_total{{pid=\"{pid}\",name=\"busy\"}}"),
            target,
            first: (0, 0.0),
        })
    }

    /// From now until the end the daemon must count what the process counts.
    fn check(&self, daemon: &Daemon) -> Result<()> {
        let last = counted(daemon, &self.metric)?;
        let truth = counts(&self.target, last.0)?;
        let between =
            |from: u64, to: u64| Ok::<_, anyhow::Error>(at(&truth, to)? - at(&truth, from)?);
        let least = between(self.first.0, last.0 - LATE_NS)?;
        let most = between(self.first.0 - LATE_NS, last.0)?;
        let said = last.1 - self.first.1;
        println!("{}: {said} polls of {least:.0} to {most:.0}", self.metric);
        ensure!(
            said >= least * (1.0 - OFF) && said <= most * (1.0 + OFF),
            "{said} of {least} to {most}"
        );
        Ok(())
    }
}

#[test]
fn what_a_daemon_takes_does_not_grow_and_what_it_counts_is_true() -> Result<()> {
    load_machine!();
    let seconds = std::env::var("LOOPPROBE_SOAK").map_or(Ok(SECONDS), |seconds| seconds.parse())?;
    ensure!(
        seconds <= MOST_SECONDS,
        "LOOPPROBE_SOAK: {MOST_SECONDS} at the most"
    );
    let folder = Folder::new("soak")?;
    let mut steady = [
        Steady::start("pace", "20000")?,
        Steady::start("block", "15000")?,
    ];
    let _crowd = Target::start(
        &target(Build::DEFAULT, "crowd")?,
        &["churn", "--rounds", "77"],
    )?;
    let passing = target(Build::DEFAULT, "busy")?;
    let passing_args = ["pace", "--millis", "2501", "--rounds", "1000"];
    // No other test's processes.
    let args = [
        "*busy * --millis 290000 *",
        "*crowd churn --rounds 77",
        "*busy pace --millis 2501 *",
    ];
    let args = args.map(|pattern| ["--command", pattern]);
    let daemon = Daemon::start(&folder, args.as_flattened())?;
    for one in &mut steady {
        daemon.until("observed", |now| now.contains_key(&one.metric))?;
        // The process must have counted for so long before.
        thread::sleep(2 * Duration::from_nanos(LATE_NS));
        one.first = counted(&daemon, &one.metric)?;
    }
    let (mut came, mut taken) = (Vec::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let mut one = Target::start(&passing, &passing_args)?;
        came.push(u64::from(one.pid()));
        one.wait()?;
        taken.push(Taken::by(&daemon)?);
    }
    steady.iter().try_for_each(|one| one.check(&daemon))?;
    is_flat(&taken)?;
    let (lines, errors) = daemon.end()?;
    let of = |kind: &str, pid: u64| {
        let is =
            move |line: &&serde_json::Value| line["type"] == kind && line["target"]["pid"] == pid;
        lines.iter().filter(is).collect::<Vec<_>>()
    };
    for pid in &came {
        let summaries = of("summary", *pid);
        let [summary] = summaries[..] else {
            anyhow::bail!("{} summaries of one that passed: {errors}", summaries.len());
        };
        ensure!(summary["polls"].as_u64() > Some(0), "{summary}");
    }
    // Each long poll is told of, or counted as lost.
    let blocked = u64::from(steady[1].target.pid());
    let summaries = of("summary", blocked);
    let summary = summaries.first().context("a summary")?;
    let told = of("long_poll", blocked);
    let told = told.iter().filter(|poll| poll["ended"] == true).count() as u64;
    let lost = summary["lost"]["events"].as_u64().unwrap_or(0);
    let long = summary["long_polls"].as_u64().context("long polls")?;
    println!(
        "{long} long polls, {told} told, {lost} lost; {} processes passed",
        came.len()
    );
    ensure!(long > seconds * 50, "{summary}");
    // Each of two workers may have one open at the end.
    ensure!(
        told + lost <= long && told + lost + 2 >= long,
        "{told} {lost} {long}"
    );
    Ok(())
}

/// Neither memory, nor descriptors, nor threads become more after the first third.
fn is_flat(taken: &[Taken]) -> Result<()> {
    println!("{taken:#?}");
    let third = taken.len() / 3;
    let (first, last) = (&taken[third..2 * third], &taken[2 * third..]);
    ensure!(!first.is_empty(), "{} moments", taken.len());
    let most = |taken: &[Taken], of: fn(&Taken) -> u64| taken.iter().map(of).max().unwrap_or(0);
    let least = |taken: &[Taken], of: fn(&Taken) -> u64| taken.iter().map(of).min().unwrap_or(0);
    let grows = |of: fn(&Taken) -> u64, slack: u64| least(last, of) > most(first, of) + slack;
    ensure!(!grows(|taken| taken.own_kib, SLACK_KIB), "memory");
    ensure!(
        !grows(|taken| taken.kernel_kib, SLACK_KIB),
        "the kernel's memory"
    );
    ensure!(!grows(|taken| taken.descriptors as u64, 0), "descriptors");
    ensure!(!grows(|taken| taken.threads as u64, 0), "threads");
    Ok(())
}
