//! What loopprobe itself takes, and what its probes take from the target, from few polls a second
//! to many.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::Context as _;

use super::{build, figure::Figure, progress, running::Running, statistics::Spread};
use crate::privileged;

const BENCH: &str = "own";
/// Polls a second.
const RATES: [u64; 4] = [1_000, 10_000, 100_000, 500_000];
/// The rate that the bars are for.
const JUDGED: u64 = 100_000;
/// The bar for CPU time, in percent of one CPU.
const CPU_PERCENT: f64 = 2.0;
/// The bar for memory.
const MEMORY_MIB: f64 = 64.0;
/// How long each rate is watched.
const WATCH: Duration = Duration::from_secs(6);

pub(super) fn measure() -> anyhow::Result<Vec<Figure>> {
    let loopprobe = build::loopprobe()?;
    let busy = build::target("busy")?;
    let mut figures = Vec::new();
    for rate in RATES {
        progress(&format!("own: {rate} polls a second"));
        let args = ["pace", "--millis", "60000", "--rounds", &rate.to_string()];
        let target = Running::start(Command::new(&busy).args(args))?;
        target.next("ready")?;
        let free = Usage::during(&target, None)?;
        let session = Running::start(privileged::command(&loopprobe).args([
            "attach",
            "--format",
            "json",
            "--pid",
            &target.pid().to_string(),
        ]))?;
        session.next("session")?;
        let pid = session.pid_of("loopprobe")?;
        let probed = Usage::during(&target, Some(pid))?;
        let memory_mib = peak_memory_kib(pid)? as f64 / 1024.0;
        session.interrupt("loopprobe")?;
        figures.extend(rows(rate, &free, &probed, memory_mib));
    }
    Ok(figures)
}

fn rows(rate: u64, free: &Usage, probed: &Usage, memory_mib: f64) -> [Figure; 4] {
    let figure = |what: &str, unit, value| {
        let what = format!("{rate} polls/s: {what}");
        Figure::new(BENCH, what, unit, Spread::one(value))
    };
    let cpu = figure("loopprobe's own CPU time", "% of a CPU", probed.loopprobe);
    let memory = figure("loopprobe's memory at its peak", "MiB", memory_mib);
    let (cpu, memory) = if rate == JUDGED {
        (cpu.at_most(CPU_PERCENT), memory.at_most(MEMORY_MIB))
    } else {
        (cpu, memory)
    };
    let added = probed.target - free.target;
    [
        figure("polls that the target reached", "/s", probed.rate),
        cpu,
        memory,
        figure("CPU time that the target needs more", "% of a CPU", added),
    ]
}

/// Over a while, in percent of one CPU.
struct Usage {
    target: f64,
    loopprobe: f64,
    rate: f64,
}

impl Usage {
    fn during(target: &Running, loopprobe: Option<u32>) -> anyhow::Result<Self> {
        let percent = |ns: u64| ns as f64 / WATCH.as_nanos() as f64 * 100.0;
        let own = || loopprobe.map_or(Ok(0), cpu_ns);
        target.skip_lines();
        let (target_before, own_before) = (cpu_ns(target.pid())?, own()?);
        thread::sleep(WATCH);
        let (target_after, own_after) = (cpu_ns(target.pid())?, own()?);
        let line = target.next("rate")?;
        Ok(Self {
            target: percent(target_after - target_before),
            loopprobe: percent(own_after - own_before),
            rate: line["polls_per_second"].as_f64().context("a rate")?,
        })
    }
}

/// CPU time of a process's threads so far: the first field of each `schedstat`
/// (`Documentation/scheduler/sched-stats.rst`).
pub(super) fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split(' ').next().context("a field")?;
        sum += first.parse::<u64>()?;
    }
    Ok(sum)
}

fn peak_memory_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("VmHWM")?.parse()?)
}
