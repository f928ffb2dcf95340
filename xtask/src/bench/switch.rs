//! What a context switch costs more: the kernel's own measure of its programs' run times
//! (`kernel.bpf_stats_enabled`, `run_time_ns` and `run_cnt` in `/proc/PID/fdinfo`), less what it
//! says of a program that does nothing and runs at the same switches.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Command,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{build, figure::Figure, progress, running::Running, statistics::Spread, watch::start};
use crate::privileged;

const BENCH: &str = "switch";

/// The bar for a switch to or from a thread of the target, in nanoseconds.
const OF_TARGET_NS: f64 = 250.0;
/// The same where neither thread is the target's.
const OF_OTHERS_NS: f64 = 50.0;
/// How long each state is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Few samples, so that the switches are what is measured.
const ARGS: [&str; 4] = ["--mode", "watch", "--sample-hz", "1"];

/// The programs that run at a switch, by their tracepoint, and the others that run at a wake-up.
const SWITCH: &str = "sched_switch";
const WAKE: &str = "sched_waking";

/// Programs that are needed.
struct Tools {
    loopprobe: PathBuf,
    empty_probes: PathBuf,
    busy: PathBuf,
    idle: PathBuf,
}

/// Measures each turn: others that switch, a target whose threads wake each other all the time, one
/// that parks, and one that waits inside polls.
pub(super) fn measure(turns: u32) -> anyhow::Result<Vec<Figure>> {
    let tools = Tools {
        loopprobe: build::loopprobe()?,
        empty_probes: build::tool("empty_probes")?,
        busy: build::target("busy")?,
        idle: build::target("idle")?,
    };
    let before = stats_enabled("1")?;
    let measured = take_turns(&tools, turns);
    stats_enabled(&before)?;
    let [others, fast, parked, waiting, waking] = measured?;
    let figure = |what: &str, costs: &[f64]| Figure::new(BENCH, what, "ns", Spread::of(costs));
    Ok(vec![
        figure("a switch between two other threads", &others).at_most(OF_OTHERS_NS),
        figure(
            "a switch of the target's, outside of polls, as fast as its threads can",
            &fast,
        )
        .at_most(OF_TARGET_NS),
        figure(
            "a switch of the target's, outside of polls, a thousand times a second",
            &parked,
        )
        .at_most(OF_TARGET_NS),
        figure(
            "a switch of the target's, half of them in a poll, with its stack",
            &waiting,
        ),
        figure("a wake-up between two other threads", &waking),
    ])
}

fn take_turns(tools: &Tools, turns: u32) -> anyhow::Result<[Vec<f64>; 5]> {
    let mut costs = [const { Vec::new() }; 5];
    for turn in 1..=turns {
        progress(&format!("switch: turn {turn} of {turns}"));
        let others = of_others(tools)?;
        costs[0].push(others.switch.mean()?);
        costs[1].push(of_target(tools, ["handover", "0"], &others)?);
        costs[2].push(of_target(tools, ["pace", "1000"], &others)?);
        costs[3].push(of_target(tools, ["block", "200"], &others)?);
        costs[4].push(others.wake.mean()?);
    }
    Ok(costs)
}

/// Sets what the kernel counts, and gives what it was.
fn stats_enabled(value: &str) -> anyhow::Result<String> {
    const NAME: &str = "kernel.bpf_stats_enabled";
    let before = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled")?;
    let setting = format!("{NAME}={value}");
    let status = privileged::command("sysctl")
        .args(["--quiet", "--write", &setting])
        .status()?;
    ensure!(status.success(), "cannot set {NAME}");
    Ok(before.trim().to_owned())
}

/// How often programs ran, and for how long.
#[derive(Clone, Copy, Debug, Default)]
struct Runs {
    ns: f64,
    runs: f64,
}

impl Runs {
    fn mean(self) -> anyhow::Result<f64> {
        ensure!(self.runs > 0.0, "no program has run");
        Ok(self.ns / self.runs)
    }

    /// Without so much of each run.
    fn less(self, ns: f64) -> Self {
        Self {
            ns: self.ns - self.runs * ns,
            ..self
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            ns: self.ns - before.ns,
            runs: self.runs - before.runs,
        }
    }
}

/// The runs of a session's programs at this tracepoint so far.
fn runs(pid: u32, tracepoint: &str) -> anyhow::Result<Runs> {
    let script = format!("for file in /proc/{pid}/fdinfo/*; do echo file:; cat $file; done");
    let output = privileged::command("sh").args(["-c", &script]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut programs = BTreeMap::new();
    let mut wanted = Vec::new();
    for file in text.split("file:\n") {
        let fields: BTreeMap<&str, &str> = file
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let Some(id) = fields.get("prog_id") else {
            continue;
        };
        if fields.get("tp_name") == Some(&tracepoint) {
            wanted.push((*id).to_owned());
        }
        if let (Some(ns), Some(runs)) = (fields.get("run_time_ns"), fields.get("run_cnt")) {
            let of = Runs {
                ns: ns.parse()?,
                runs: runs.parse()?,
            };
            programs.insert((*id).to_owned(), of);
        }
    }
    ensure!(!wanted.is_empty(), "no program at {tracepoint}");
    let mut sum = Runs::default();
    for id in &wanted {
        let of = programs.get(id).context("a program's runs")?;
        sum.ns += of.ns;
        sum.runs += of.runs;
    }
    Ok(sum)
}

/// A session, and the program that does nothing beside it.
struct Watched {
    session: Running,
    empty: Running,
    pids: [u32; 2],
}

/// Runs so far, or over a while: of loopprobe's programs, less what is said of an empty one.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    switch: Runs,
    wake: Runs,
}

impl Watched {
    fn start(tools: &Tools, target: &Running) -> anyhow::Result<Self> {
        let session = start(&tools.loopprobe, target.pid(), &ARGS.map(str::to_owned))?;
        let mut command = privileged::command(&tools.empty_probes);
        let empty = Running::start(command.args(["switch", &target.pid().to_string()]))?;
        empty.next("session")?;
        let pids = [session.pid_of("loopprobe")?, empty.pid_of("empty_probes")?];
        Ok(Self {
            session,
            empty,
            pids,
        })
    }

    /// What the programs have cost over the time that `while_` takes.
    fn cost(&self, while_: impl FnOnce()) -> anyhow::Result<Cost> {
        let [session, empty] = self.pids;
        let counts = || -> anyhow::Result<_> {
            Ok([
                runs(session, SWITCH)?,
                runs(session, WAKE)?,
                runs(empty, SWITCH)?,
            ])
        };
        let before = counts()?;
        while_();
        let [switch, wake, nothing] = counts()?;
        let nothing_ns = nothing.since(before[2]).mean()?;
        Ok(Cost {
            switch: switch.since(before[0]).less(nothing_ns),
            wake: wake.since(before[1]).less(nothing_ns),
        })
    }

    fn end(self) -> anyhow::Result<()> {
        self.session.interrupt("loopprobe")?;
        self.empty.end_input()
    }
}

/// Switches that have nothing to do with the target, which does nothing.
fn of_others(tools: &Tools) -> anyhow::Result<Cost> {
    let target = Running::start(Command::new(&tools.idle).arg("idle"))?;
    target.next("ready")?;
    let watched = Watched::start(tools, &target)?;
    let cost = watched.cost(play_ping_pong)?;
    watched.end()?;
    Ok(cost)
}

/// Two threads that wait for each other by turns.
fn play_ping_pong() {
    let (there, here): (SyncSender<()>, Receiver<()>) = sync_channel(0);
    let (back, again) = sync_channel(0);
    let other = thread::spawn(
        move || {
            while here.recv().is_ok() && back.send(()).is_ok() {}
        },
    );
    let begin = Instant::now();
    while begin.elapsed() < LOOK && there.send(()).is_ok() && again.recv().is_ok() {}
    drop((there, again));
    let _ = other.join();
}

/// What the target's switches cost, each with its part of the wake-ups; those of others, which
/// happen meanwhile, are taken off.
fn of_target(tools: &Tools, args: [&str; 2], others: &Cost) -> anyhow::Result<f64> {
    let [scenario, rounds] = args;
    let args = [scenario, "--millis", "60000", "--rounds", rounds];
    let target = Running::start(Command::new(&tools.busy).args(args))?;
    target.next("ready")?;
    let watched = Watched::start(tools, &target)?;
    let before = switches(target.pid())?;
    let cost = watched.cost(|| thread::sleep(LOOK))?;
    let times_off = switches(target.pid())? - before;
    // Each is seen when the thread goes off its CPU and when it is back.
    let of_target = 2.0 * times_off;
    watched.end()?;
    ensure!(
        of_target > cost.switch.runs / 4.0,
        "the target has too small a part"
    );
    let of_others = (cost.switch.runs - of_target).max(0.0) * others.switch.mean()?;
    // Each time off the CPU ends with one wake-up at the most.
    let wakes_of_others = (cost.wake.runs - times_off).max(0.0) * others.wake.mean()?;
    Ok((cost.switch.ns + cost.wake.ns - of_others - wakes_of_others) / of_target)
}

/// How often the process's threads have gone off their CPUs.
fn switches(pid: u32) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("status"))?;
        for line in text.lines().filter(|line| line.contains("ctxt_switches:")) {
            let count = line.split_whitespace().nth(1).context("a count")?;
            sum += count.parse::<f64>()?;
        }
    }
    Ok(sum)
}
