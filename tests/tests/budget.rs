//! `--max-overhead`: what is left out when observation costs the process too much, and that it is
//! said.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::Step;
use loopprobe_tests::{session::Session, take_machine, target::Target};

#[test]
fn a_process_that_polls_as_fast_as_it_can_is_let_be_and_looked_at_again() -> Result<()> {
    take_machine!();
    // Hundreds of thousands of short polls a second: probes cost most of its time, and leaving out
    // stacks saves nothing.
    let target = Target::busy("busy", 200)?;
    // The shortest pause is 10 s; at this share none is longer.
    let args = [
        "--max-overhead",
        "30%",
        "--duration",
        "16s",
        "--interval",
        "1s",
    ];
    let report = Session::attach(target.pid(), &args)?.finish()?;
    let steps: Vec<(u64, Step)> = report
        .notices
        .iter()
        .filter_map(|notice| Some((notice.time_ns, notice.step?)))
        .collect();
    let summary = &report.summary;
    let budget = summary.budget.as_ref().context("a budget")?;
    println!("{steps:?} {budget:?}");
    let [(paused_ns, Step::Paused), (again_ns, Step::NoStacks), ..] = steps[..] else {
        anyhow::bail!("{steps:?}");
    };
    ensure!(again_ns - paused_ns >= 10_000_000_000);
    // From the target's own record: it went on at its full rate meanwhile, which only a process
    // without probes can.
    let mut rates = Vec::new();
    while rates.last().is_none_or(|(at, _)| *at < again_ns) {
        let lines = target.until("rate", Duration::from_secs(5))?;
        let line = lines.last().context("a line")?;
        let at = line["at_ns"].as_u64().context("a time")?;
        rates.push((at, line["polls_per_second"].as_f64().context("a rate")?));
    }
    let between = |from: u64, to: u64| -> Vec<f64> {
        let of = rates.iter().filter(|(at, _)| (from..to).contains(at));
        of.map(|(_, rate)| *rate).collect()
    };
    let before = between(report.head.start_ns + 1_000_000_000, paused_ns);
    let rates = between(paused_ns + 1_500_000_000, again_ns);
    let best = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    println!("{before:?} {rates:?}");
    ensure!(best(&rates) > 1.5 * best(&before), "{before:?} {rates:?}");
    // Intervals tell of no time in which nothing was seen, and polls are seen again.
    let in_pause = report
        .intervals
        .iter()
        .filter(|interval| (paused_ns + 1..again_ns).contains(&interval.time_ns));
    ensure!(in_pause.count() == 0);
    let after = report.intervals.iter().find(|i| i.time_ns > again_ns);
    ensure!(after.context("an interval")?.polls > 0);
    ensure!(budget.paused_ns >= 10_000_000_000 && budget.steps_down >= 1 && budget.steps_up >= 1);
    ensure!(summary.workers == Some(2), "{:?}", summary.workers);
    // No poll spans the time in which nothing was seen.
    let spans = |start: u64, duration: u64| start < again_ns && start + duration > again_ns;
    ensure!(
        report
            .polls
            .iter()
            .all(|poll| !spans(poll.start_ns, poll.duration_ns))
    );
    let canary = summary.canary.as_ref().context("a check")?;
    ensure!(canary.failed == 0, "{canary:?}");
    Ok(())
}

#[test]
fn what_costs_little_is_observed_in_full() -> Result<()> {
    take_machine!();
    let target = Target::busy("block", 50_000)?;
    let args = ["--max-overhead", "10%", "--duration", "4s"];
    let report = Session::attach(target.pid(), &args)?.finish()?;
    let budget = report.summary.budget.context("a budget")?;
    ensure!(
        budget.step == Step::Full && budget.steps_down == 0,
        "{budget:?}"
    );
    ensure!((budget.share - 0.1).abs() < 1e-9);
    ensure!(report.notices.iter().all(|notice| notice.step.is_none()));
    Ok(())
}
