//! A long poll's time is split into what it spent on a CPU, waiting for one, and blocked; and two
//! causes that the process's surroundings make: a name server that is late, and a CPU quota. The
//! truth is the target's own.

use anyhow::{Result, ensure};
use loopprobe::model::Cause;
use loopprobe_tests::causes::{Call, observe};
use loopprobe_tests::halve_machine;
use loopprobe_tests::matrix::Build;

const ROUNDS: u32 = 4;

fn cause(call: &Call) -> Option<Cause> {
    call.report
        .diagnosis
        .as_ref()
        .map(|diagnosis| diagnosis.cause)
}

/// The parts of the duration add up.
fn split_is_right(call: &Call) -> Result<()> {
    let Some(split) = call.report.split else {
        anyhow::bail!("{}: the time is not split", call.case.label);
    };
    let duration = call.report.duration_ns as f64;
    let sum = (split.on_cpu_ns + split.runnable_ns + split.blocked_ns) as f64;
    ensure!(
        (sum - duration).abs() <= duration * 0.01,
        "{}: {split:?} is not {duration}",
        call.case.label
    );
    Ok(())
}

/// Of the calls that compute, half must agree with the thread's own clock within 3 %. Not all:
/// interrupts and stolen time pass on the CPU too, but the thread's clock leaves them out, and a
/// virtual machine among others has much of both.
fn cpu_time_is_right(calls: &[Call]) -> Result<()> {
    let mut errors: Vec<f64> = calls
        .iter()
        .filter_map(|call| {
            Some((
                call.report.split?.on_cpu_ns as f64,
                call.truth.cpu_ns as f64,
            ))
        })
        .map(|(told, truth)| (told / truth - 1.0).abs())
        .collect();
    errors.sort_by(f64::total_cmp);
    eprintln!("time on a CPU, relative errors: {errors:.4?}");
    ensure!(
        !errors.is_empty() && errors[errors.len() / 2] <= 0.03,
        "time on a CPU is off by {errors:?}"
    );
    Ok(())
}

fn check(build: Build) -> Result<()> {
    halve_machine!();
    let (calls, _) = observe(build, "all", ROUNDS)?;
    calls.iter().try_for_each(split_is_right)?;
    cpu_time_is_right(&observe(build, "cpu", 3 * ROUNDS)?.0)
}

#[test]
fn the_parts_add_up_to_the_duration() -> Result<()> {
    check(Build::DEFAULT)
}

#[test]
fn the_parts_add_up_to_the_duration_in_a_stripped_program() -> Result<()> {
    check(Build::DEFAULT.stripped())
}

#[test]
fn a_late_name_server_is_recognised() -> Result<()> {
    halve_machine!();
    for call in observe(Build::DEFAULT, "dns", ROUNDS)?.0 {
        let blamed = call
            .report
            .diagnosis
            .as_ref()
            .and_then(|diagnosis| diagnosis.call.as_ref());
        let right = cause(&call) == Some(Cause::Dns)
            && blamed.is_some_and(|found| found.function == call.case.function);
        ensure!(right || call.was_starved(), "{:?}", call.report);
    }
    Ok(())
}

#[test]
fn a_cpu_quota_is_recognised() -> Result<()> {
    halve_machine!();
    let (calls, _) = observe(Build::DEFAULT, "throttled", ROUNDS)?;
    let with = |wanted| {
        calls
            .iter()
            .filter(|call| cause(call) == Some(wanted))
            .count()
    };
    let (throttled, preempted) = (with(Cause::Throttled), with(Cause::Preempted));
    ensure!(throttled + preempted == calls.len(), "{calls:?}");
    // 25 ms at 10 ms in each 100 ms take 300 ms at most; what takes longer waited more for other
    // threads than for its quota.
    let others_had_the_cpu = calls
        .iter()
        .all(|call| call.report.duration_ns > 350_000_000);
    ensure!(throttled > 0 || others_had_the_cpu, "{calls:?}");
    Ok(())
}
