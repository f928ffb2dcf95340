//! Where the blocked time went, held against `perf record --call-graph dwarf` and against the
//! target's own clocks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loopprobe::model::StackKind;
use loopprobe_tests::matrix::{self, Build, Profile};
use loopprobe_tests::privileges::place;
use loopprobe_tests::session::{Report, Session};
use loopprobe_tests::take_machine;
use loopprobe_tests::target::Target;

/// Enough for the sampling error of either side to stay below one percentage point.
const SECONDS: u32 = 10;
const HZ: &str = "999";
const FUNCTIONS: [&str; 3] = ["blend::hash", "blend::sort", "blend::parse"];
/// How far two shares may be apart.
const POINTS: f64 = 0.03;

/// The share of each function.
type Shares = BTreeMap<String, f64>;

#[test]
fn functions_have_the_shares_that_perf_and_the_target_give_them() -> Result<()> {
    let builds = [
        Build::DEFAULT,
        Build {
            profile: Profile::DebugInfo,
            ..Build::DEFAULT
        },
    ];
    for build in builds {
        let program = matrix::target(build, "blend")?;
        let watched = {
            take_machine!();
            watch(&program).with_context(|| format!("{build:?}"))?
        };
        let _place = place()?;
        compare(&watched).with_context(|| format!("{build:?}"))?;
    }
    Ok(())
}

/// What was seen of the same seconds of the same process.
struct Watched {
    truth: Shares,
    own: Report,
    /// perf's recording.
    perf: PathBuf,
}

fn watch(program: &Path) -> Result<Watched> {
    let mut target = Target::start(program, &["--rounds", "20"])?;
    let session = Session::attach(target.pid(), &["--sample-hz", HZ])?;
    let perf = matrix::target_dir().join("blend.perf.data");
    record(target.pid(), &perf)?;
    let own = session.interrupt()?;
    target.send("quit")?;
    let lines = target.until("end", Duration::from_secs(10))?;
    let truth = shares(lines.iter().map(|line| {
        let name = line["function"].as_str().unwrap_or_default();
        (name.to_owned(), line["cpu_ns"].as_f64().unwrap_or(0.0))
    }));
    Ok(Watched { truth, own, perf })
}

fn compare(watched: &Watched) -> Result<()> {
    let truth = &watched.truth;
    let perf = shares(perf_samples(&watched.perf)?);
    let own = shares(own_samples(&watched.own));
    println!("  truth     {truth:.3?}\n  perf      {perf:.3?}\n  loopprobe {own:.3?}");
    for function in FUNCTIONS {
        let share = |shares: &Shares| shares.get(function).copied().unwrap_or(0.0);
        // On a busy machine the samples of a window are off from the target's whole life, perf's as
        // well.
        let off = (share(&perf) - share(truth)).abs();
        for (other, allowed) in [(&perf, POINTS), (truth, POINTS + off)] {
            ensure!(
                (share(&own) - share(other)).abs() <= allowed,
                "{function}: {own:?}, but {other:?}"
            );
        }
    }
    Ok(())
}

fn record(pid: u32, data: &Path) -> Result<()> {
    let output = Command::new("perf")
        .args(["record", "-q", "-e", "cpu-clock", "-F", HZ])
        .args(["--call-graph", "dwarf,4096", "-p", &pid.to_string(), "-o"])
        .arg(data)
        .args(["--", "sleep", &SECONDS.to_string()])
        .output()
        .context("perf is missing: install linux-perf")?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// One for each sample with a function of the target on its stack.
fn perf_samples(data: &Path) -> Result<Vec<(String, f64)>> {
    let output = Command::new("perf")
        .args(["script", "--no-inline", "-F", "ip,sym", "-i"])
        .arg(data)
        .stderr(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "perf script: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let samples = text.split("\n\n");
    Ok(samples
        .filter_map(|stack| Some((function_in(stack.lines())?.to_owned(), 1.0)))
        .collect())
}

/// One for each stack on the CPU, by its time.
fn own_samples(report: &Report) -> Vec<(String, f64)> {
    let stacks = report.ended().into_iter().flat_map(|poll| &poll.stacks);
    stacks
        .filter(|stack| stack.kind == StackKind::OnCpu)
        .filter_map(|stack| {
            let names = stack.frames.iter().filter_map(|f| f.function.as_deref());
            Some((function_in(names)?.to_owned(), stack.ns as f64))
        })
        .collect()
}

/// The innermost of the functions on a stack. What one of them calls is its own.
fn function_in<'a>(mut frames: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    frames.find_map(|frame| {
        FUNCTIONS
            .into_iter()
            .find(|function| frame.contains(function))
    })
}

fn shares(samples: impl IntoIterator<Item = (String, f64)>) -> Shares {
    let mut sums = Shares::new();
    for (function, weight) in samples {
        *sums.entry(function).or_default() += weight;
    }
    let total: f64 = sums.values().sum();
    sums.values_mut().for_each(|sum| *sum /= total);
    sums
}
