//! What loopprobe costs: its stacks the target's polls, and a storm of long polls itself.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loopprobe_tests::matrix::{Build, target};
use loopprobe_tests::session::Session;
use loopprobe_tests::take_machine;
use loopprobe_tests::target::Target;

const SECOND_NS: u64 = 1_000_000_000;

/// How often the target says what it needs.
const PERIOD_NS: u64 = SECOND_NS / 2;

/// The CPU time that the target needs for a poll, in nanoseconds, over two whole periods after
/// `since_ns`.
fn cost(target: &Target, since_ns: u64) -> Result<f64> {
    let mut costs = Vec::new();
    while costs.len() < 2 {
        let lines = target.until("rate", Duration::from_secs(10))?;
        let line = lines.last().context("a line")?;
        let at_ns = line["at_ns"].as_u64().context("a time")?;
        if at_ns >= since_ns + PERIOD_NS {
            costs.push(line["cpu_ns_per_poll"].as_f64().context("a cost")?);
        }
    }
    Ok(costs.iter().sum::<f64>() / costs.len() as f64)
}

/// The same in a session, and when it ended.
fn cost_in_session(target: &Target, args: &[&str]) -> Result<(f64, u64)> {
    let session = Session::attach(target.pid(), args)?;
    let start_ns = session.head.start_ns;
    let cost = cost(target, start_ns)?;
    let report = session.interrupt()?;
    Ok((cost, start_ns + report.summary.duration_ns))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nothing, timing alone, and timing with stacks take turns; the medians of the differences count.
#[test]
fn stacks_cost_polls_that_are_not_long_at_most_a_tenth_more() -> Result<()> {
    const TURNS: usize = 7;
    take_machine!();
    let program = target(Build::DEFAULT, "busy")?;
    let target = Target::start(
        &program,
        &["--millis", "200000", "--rounds", "100", "--every", "500"],
    )?;
    let (mut timing, mut stacks, mut free_from) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TURNS {
        let free = cost(&target, free_from)?;
        let (timed, _) = cost_in_session(&target, &["--no-stacks", "--threshold", "1s"])?;
        let (stacked, end_ns) = cost_in_session(&target, &["--threshold", "1s"])?;
        free_from = end_ns;
        timing.push(timed - free);
        stacks.push(stacked - free);
    }
    println!("ns a poll: timing {timing:.0?}, with stacks {stacks:.0?}");
    let ratio = median(stacks) / median(timing);
    println!("ratio {ratio:.3}");
    ensure!(ratio <= 1.1, "stacks cost {ratio} of what timing does");
    Ok(())
}

/// The mean of the middle three fifths, and how far it may be off: two standard errors. What a poll
/// needs differs by a tenth from one second to the next, so short turns tell more than long ones.
fn middle(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let cut = values.len() / 5;
    let kept = &values[cut..values.len() - cut];
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let middle = mean(kept);
    // The outer ones stand at the edge of the kept ones: the usual error of a mean that leaves out
    // the same share at both ends.
    let edged = values
        .iter()
        .map(|value| value.clamp(kept[0], kept[kept.len() - 1]));
    let squares: Vec<f64> = edged.map(|value| (value - middle).powi(2)).collect();
    let share = kept.len() as f64 / values.len() as f64;
    let error = mean(&squares).sqrt() / share / (values.len() as f64).sqrt();
    (middle, 2.0 * error)
}

/// A service on one thread: a thousand times a second it wakes, polls four times and parks. Without
/// a session and with one take turns. On one thread slower polls change nothing else: no other
/// worker is woken or parked more often. The probes' price between quick polls alone is less than
/// six tenths of it. The bar of 30 % allows for what the measurement may be off.
#[test]
fn the_bill_is_what_the_target_needs_more() -> Result<()> {
    const TURNS: std::ops::RangeInclusive<usize> = 15..=30;
    take_machine!();
    let program = target(Build::DEFAULT, "busy")?;
    let mut args = vec!["alone", "--millis", "300000", "--rounds", "4000"];
    args.extend(["--every", "500"]);
    let target = Target::start(&program, &args)?;
    let (mut growth, mut bills, mut free_from) = (Vec::new(), Vec::new(), 0);
    while growth.len() < *TURNS.end() {
        let free = cost(&target, free_from)?;
        let session = Session::attach(target.pid(), &[])?;
        let start_ns = session.head.start_ns;
        let watched = cost(&target, start_ns)?;
        let summary = session.interrupt()?.summary;
        free_from = start_ns + summary.duration_ns;
        let bill = summary.cost.context("a bill")?;
        println!("{:.0} ns a poll more; {bill:?}", watched - free);
        let parts = [
            bill.probes_ns,
            bill.scheduler_ns,
            bill.stacks_ns,
            bill.samples_ns,
        ];
        ensure!(
            bill.total_ns == parts.iter().sum::<u64>(),
            "parts: {bill:?}"
        );
        ensure!(
            bill.probes_ns > 0 && bill.scheduler_ns > 0,
            "parts: {bill:?}"
        );
        growth.push(watched - free);
        bills.push(bill.total_ns as f64 / summary.polls.context("polls")? as f64);
        if growth.len() >= *TURNS.start() {
            let (growth, error) = middle(growth.clone());
            // A restless machine takes more turns.
            if error < 0.1 * growth {
                break;
            }
        }
    }
    let ((bill, _), (growth, error)) = (middle(bills), middle(growth));
    let ratio = bill / growth;
    println!(
        "the target needs {growth:.0} ns a poll more, to within {error:.0}; the bill says {bill:.0}: {ratio:.2}"
    );
    ensure!(
        error < 0.5 * growth,
        "the machine is too restless to tell: {growth} to within {error}"
    );
    // What the measurement itself may be off is not held against the bill.
    let least = bill / (growth + error);
    let most = bill / (growth - error);
    ensure!(least <= 1.3 && most >= 0.7, "{least} to {most}");
    Ok(())
}

#[test]
fn a_thousand_long_polls_a_second_take_a_quarter_of_a_cpu_at_most() -> Result<()> {
    const SECONDS: u64 = 8;
    const WORKERS: u64 = 2;
    take_machine!();
    let program = target(Build::DEFAULT, "busy")?;
    // Two workers that each block for a little less than 2 ms, again and again.
    let args = ["block", "--millis", "60000", "--rounds", "1850"];
    let target = Target::start(&program, &args)?;
    let session = Session::attach(target.pid(), &["--threshold", "1ms"])?;
    let before = cpu_ticks(session.pid())?;
    std::thread::sleep(Duration::from_secs(SECONDS));
    let share = (cpu_ticks(session.pid())? - before) as f64 / (ticks_per_second() * SECONDS as f64);
    let peak_mib = peak_memory_kib(session.pid())? / 1024;
    let report = session.interrupt()?;
    let polls = report.ended().len() as u64;
    let seconds = report.summary.duration_ns as f64 / SECOND_NS as f64;
    let per_second = polls as f64 / seconds;
    println!(
        "{per_second:.0} long polls a second: {:.1} % of a CPU, {peak_mib} MiB; lost: {:?}",
        share * 100.0,
        report.summary.lost
    );
    ensure!(per_second > 900.0, "only {per_second} a second");
    ensure!(share < 0.25, "{share} of a CPU");
    ensure!(peak_mib < 256, "{peak_mib} MiB");
    // Each worker may have one open at the end, which is counted and not reported.
    ensure!(
        polls + WORKERS + report.summary.lost.unwrap_or_default().events
            >= report.summary.long_polls,
        "{polls} of {} were reported, and {:?}",
        report.summary.long_polls,
        report.summary.lost
    );
    Ok(())
}

/// CPU time of a process so far: fields 14 and 15 of `/proc/PID/stat` (proc_pid_stat(5)).
fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("a name in brackets")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

fn ticks_per_second() -> f64 {
    // SAFETY: no memory is passed.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

fn peak_memory_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("VmHWM")?.parse()?)
}
