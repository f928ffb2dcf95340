//! Placing probes: both ways of it, and what a probe costs.

use anyhow::Result;
use loopprobe::attach::{AttachError, Method, ProbeTiming, measure};
use loopprobe_tests::confined::confined;
use loopprobe_tests::{only_root, take_machine};

fn timing(method: Option<Method>) -> Result<ProbeTiming> {
    confined(|| Ok(measure(method, true, false)?.timing))
}

fn is_permission(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<AttachError>();
    error.is_some_and(AttachError::is_permission)
}

#[test]
fn one_link_for_all_probes_times_calls_on_every_thread() -> Result<()> {
    take_machine!();
    let timing = timing(Some(Method::Multi))?;
    assert!(timing.all_threads, "{timing:?}");
    Ok(())
}

/// What kernels before 6.6 are left with.
#[test]
fn a_perf_event_for_each_probe_times_calls_on_every_thread() -> Result<()> {
    take_machine!();
    let timing = timing(Some(Method::PerfEvent));
    if timing.as_ref().is_err_and(is_permission) {
        only_root!(ProbesByPerfEvent);
    }
    let timing = timing?;
    assert!(timing.all_threads, "{timing:?}");
    Ok(())
}

/// The programs' own work must stay small beside what the kernel takes to get to them and back.
/// Noise only adds, to either side, so the best of a few tries counts.
#[test]
fn timing_a_poll_costs_at_most_1_3_times_an_empty_pair_of_probes() -> Result<()> {
    take_machine!();
    let best = least_over_empty(false)?;
    assert!(best <= 1.3, "{best}");
    Ok(())
}

/// Half as many probes, and the same work on a poll.
#[test]
fn timing_by_entries_alone_costs_at_most_1_5_times_an_empty_entry_probe() -> Result<()> {
    take_machine!();
    let best = least_over_empty(true)?;
    assert!(best <= 1.5, "{best}");
    Ok(())
}

fn least_over_empty(light: bool) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let timing = confined(|| Ok(measure(None, true, light)?.timing))?;
        println!("{timing:?}");
        best = best.min(timing.ns_per_poll / timing.empty_ns);
    }
    Ok(best)
}
