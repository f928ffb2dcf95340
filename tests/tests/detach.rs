//! Whatever ends loopprobe while it places or removes probes, none is left: a second Ctrl-C, `kill
//! -9`, and `kill -9` of all its processes. A target's code, libraries included, is compared with
//! its files byte for byte after each.
//!
//! `LOOPPROBE_CYCLES` sets how often two signals are sent, and half as often each kind of kill;
//! docs/safety.md has the figures of 200.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loopprobe_tests::leftovers::Objects;
use loopprobe_tests::lines::Lines;
use loopprobe_tests::matrix::{Build, loopprobe, target};
use loopprobe_tests::take_machine;
use loopprobe_tests::target::{Target, wait};
use loopprobe_tests::text::{changed_bytes, changed_places, until_clean};

/// How often two signals are sent, unless told otherwise.
const CYCLES: u32 = 12;
/// The second of two signals, or the kill, comes up to so long after the first signal: a detach
/// takes 50 ms and more.
const SPREAD: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_mins(1);
/// A target ends by itself after 300 s, so a new one is started after so many cycles.
const CYCLES_A_TARGET: u32 = 25;

fn cycles() -> Result<u32> {
    std::env::var("LOOPPROBE_CYCLES").map_or(Ok(CYCLES), |cycles| {
        cycles.parse().context("LOOPPROBE_CYCLES")
    })
}

/// More than a thousand sites, on a runtime with a worker or on a current_thread runtime that polls
/// and waits all the time.
fn many(cycle: u32) -> Result<Target> {
    let scenario = ["many", "current_thread"][cycle as usize % 2];
    // With a thousand symbols the search for names alone takes seconds.
    let path = target(Build::DEFAULT.stripped(), "many")?;
    let target = Target::start(&path, &[scenario, "--millis", "290000"])?;
    ensure!(
        changed_bytes(target.pid())? == 0,
        "changed before anything happened"
    );
    Ok(target)
}

/// Both targets, started anew from time to time, each with what was found out about it.
struct Targets<T>(Vec<(Target, T)>);

impl<T> Targets<T> {
    fn get(&mut self, cycle: u32, look: impl Fn(&Target) -> Result<T>) -> Result<&mut (Target, T)> {
        if cycle.is_multiple_of(2 * CYCLES_A_TARGET) {
            self.0.clear();
        }
        let which = cycle as usize % 2;
        if self.0.len() == which {
            let target = many(cycle)?;
            let found = look(&target)?;
            self.0.push((target, found));
        }
        Ok(&mut self.0[which])
    }
}

/// Between zero and one, without a pattern that a machine could fall into step with.
fn fraction(cycle: u32) -> f64 {
    (f64::from(cycle) * 0.618_034).fract()
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: the pid is that of a child that has not been waited for, or of a child of one.
    unsafe { libc::kill(pid as i32, signal) };
}

fn start(target: &Target) -> Result<Child> {
    Command::new(loopprobe()?)
        .args(["attach", "--format", "json", "--pid"])
        .arg(target.pid().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting loopprobe")
}

/// Up to the session's head. The lines are to be kept: a closed pipe ends a session.
fn attach(target: &Target) -> Result<(Child, Lines)> {
    let mut child = start(target)?;
    let lines = Lines::of(child.stdout.take().context("a pipe")?);
    let head = lines.until("session", PATIENCE);
    if head.is_err() {
        child.kill()?;
    }
    head?;
    Ok((child, lines))
}

/// Processes that loopprobe has started and that have not ended.
fn helpers(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let children = threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| {
            let list = fs::read_to_string(thread.path().join("children")).ok()?;
            Some(
                list.split_whitespace()
                    .flat_map(str::parse)
                    .collect::<Vec<u32>>(),
            )
        });
    children.flatten().collect()
}

#[test]
fn two_signals_leave_nothing() -> Result<()> {
    take_machine!();
    let before = Objects::now()?;
    let (mut targets, mut waited) = (Targets(Vec::new()), 0);
    for cycle in 0..cycles()? {
        let (target, ()) = targets.get(cycle, |_| Ok(()))?;
        let (mut child, _lines) = attach(target)?;
        signal(child.id(), libc::SIGINT);
        std::thread::sleep(SPREAD.mul_f64(fraction(cycle)));
        signal(child.id(), libc::SIGINT);
        let status = wait(&mut child, PATIENCE)?;
        // A child of loopprobe's that has copies of its descriptors may live on for a moment.
        until_clean(target.pid()).with_context(|| format!("after cycle {cycle}: {status}"))?;
        let mut errors = String::new();
        child
            .stderr
            .take()
            .context("a pipe")?
            .read_to_string(&mut errors)?;
        waited += u32::from(errors.contains("removing the probes first"));
        ensure!(target.is_alive()?, "the target died");
    }
    ensure!(waited > 0, "no second signal came during a detach");
    eprintln!("{waited} second signals waited for a detach");
    Objects::are_gone_since(&before)
}

#[test]
fn kills_inside_the_detach_leave_nothing() -> Result<()> {
    take_machine!();
    let before = Objects::now()?;
    let (mut targets, mut inside) = (Targets(Vec::new()), 0);
    for cycle in 0..cycles()?.div_ceil(2) {
        let (target, ()) = targets.get(cycle, |_| Ok(()))?;
        let (mut child, _lines) = attach(target)?;
        let placed = changed_places(target.pid())?.len();
        ensure!(placed > 1000, "{placed} bytes changed: few probes");
        signal(child.id(), libc::SIGINT);
        std::thread::sleep(SPREAD.mul_f64(fraction(cycle)));
        // Every other time all of its processes are killed at once, as a container's end does.
        let helpers = if cycle % 4 < 2 {
            helpers(child.id())
        } else {
            Vec::new()
        };
        helpers.iter().for_each(|&pid| signal(pid, libc::SIGKILL));
        signal(child.id(), libc::SIGKILL);
        inside += u32::from(changed_bytes(target.pid())? > 0);
        wait(&mut child, PATIENCE)?;
        until_clean(target.pid()).with_context(|| format!("after cycle {cycle}"))?;
        ensure!(target.is_alive()?, "the target died");
    }
    ensure!(inside > 0, "no kill came during a detach");
    eprintln!("{inside} kills came while probes were in place");
    Objects::are_gone_since(&before)
}

#[test]
fn kills_inside_the_attach_leave_nothing() -> Result<()> {
    take_machine!();
    let before = Objects::now()?;
    let (mut targets, mut inside) = (Targets(Vec::new()), 0);
    for cycle in 0..cycles()?.div_ceil(2) {
        let (target, sites) = targets.get(cycle, Sites::of)?;
        let mut child = start(target)?;
        let goal = (sites.places.len() as f64 * fraction(cycle)) as usize;
        let deadline = Instant::now() + PATIENCE;
        while sites.placed()? <= goal {
            ensure!(Instant::now() < deadline, "no probe is placed");
            // A thousand are placed within some 20 ms.
            std::thread::sleep(Duration::from_micros(200));
        }
        inside += u32::from(sites.placed()? < sites.places.len());
        signal(child.id(), libc::SIGKILL);
        wait(&mut child, PATIENCE)?;
        until_clean(target.pid()).with_context(|| format!("after cycle {cycle}"))?;
        ensure!(target.is_alive()?, "the target died");
    }
    ensure!(inside > 0, "no kill came during an attach");
    eprintln!("{inside} kills came while probes were being placed");
    Objects::are_gone_since(&before)
}

/// Where probes are placed in a target's program.
struct Sites {
    memory: fs::File,
    places: Vec<u64>,
    /// What is between the first place and the last when there is no probe.
    clean: Vec<u8>,
}

impl Sites {
    /// Attaches to find out.
    fn of(target: &Target) -> Result<Self> {
        let (mut child, _lines) = attach(target)?;
        let mut places = changed_places(target.pid())?;
        signal(child.id(), libc::SIGINT);
        wait(&mut child, PATIENCE)?;
        let first = *places.first().context("no probe was placed")?;
        // Libraries lie farther away.
        places.retain(|place| place - first < 1 << 30);
        let mut sites = Sites {
            memory: fs::File::open(format!("/proc/{}/mem", target.pid()))?,
            places,
            clean: Vec::new(),
        };
        sites.clean = sites.now()?;
        ensure!(sites.placed()? == 0, "probes are left");
        Ok(sites)
    }

    fn now(&self) -> Result<Vec<u8>> {
        let (first, last) = (self.places[0], self.places[self.places.len() - 1]);
        let mut bytes = vec![0; (last - first + 1) as usize];
        self.memory.read_exact_at(&mut bytes, first)?;
        Ok(bytes)
    }

    /// How many are placed now.
    fn placed(&self) -> Result<usize> {
        let now = self.now()?;
        let differs = |place: &&u64| {
            let at = (**place - self.places[0]) as usize;
            now[at] != self.clean[at]
        };
        Ok(self.places.iter().filter(differs).count())
    }
}
