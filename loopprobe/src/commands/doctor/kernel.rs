//! What the kernel can do, found out by doing it: on a function of loopprobe's own, with nothing
//! left behind.

use loopprobe_common::records::ThreadRegisters;

use super::check::Check;
use crate::{
    attach::{AttachError, Capacity, Kernel, Method, Settings, measure},
    process::capabilities,
};

const PERMISSION: &str = "run with sudo, or see the capabilities above";
/// "perf: Revert to requiring CAP_SYS_ADMIN for uprobes": Linux 6.16 and the stable kernels of that
/// summer (CVE-2025-38466).
const ADMIN: &str =
    "run with sudo: without uprobe_multi (Linux 6.6) the kernel wants CAP_SYS_ADMIN for probes";
const TOO_OLD: &str = "boot a kernel of version 5.15 or later with CONFIG_BPF_SYSCALL, CONFIG_UPROBES and CONFIG_PERF_EVENTS";

pub(super) fn checks() -> Vec<Check> {
    let mut checks = probes();
    match load() {
        Ok(kernel) => {
            checks.push(Check::good("eBPF programs", "the verifier accepts them"));
            checks.extend(events(kernel));
        }
        Err(error) => checks.push(failed("eBPF programs", &error)),
    }
    checks
}

/// One link for all probes is better; one perf event a probe is enough.
fn probes() -> Vec<Check> {
    const MULTI: &str = "uprobe_multi link";
    const SINGLE: &str = "uprobe perf events";
    let cost = |ns: f64| {
        format!(
            "works; entry and return cost {:.2}us a poll here",
            ns / 1_000.0
        )
    };
    // The one's probes must be gone before the other's are timed on the same functions.
    let time = |method| measure(Some(method), true, false).map(|measured| measured.timing);
    let multi = time(Method::Multi);
    let single = time(Method::PerfEvent);
    let multi_works = multi.is_ok();
    let first = match multi {
        Ok(timing) if timing.all_threads => Check::good(MULTI, cost(timing.ns_per_poll)),
        Ok(timing) => Check::note(
            MULTI,
            format!(
                "{}; limited to one process it misses threads, so probes run for all",
                cost(timing.ns_per_poll)
            ),
        ),
        Err(error) if single.is_ok() || !error.is_permission() && is_refused(&single) => {
            Check::note(
                MULTI,
                format!("not here ({error}); perf events take its place"),
            )
        }
        Err(error) => failed(MULTI, &error),
    };
    let second = match single {
        Ok(timing) => Check::good(SINGLE, cost(timing.ns_per_poll)),
        Err(error) if multi_works => Check::note(SINGLE, format!("not here ({error}); not needed")),
        Err(error) if error.is_permission() && capabilities::missing().is_empty() => {
            Check::bad(SINGLE, error.to_string(), ADMIN)
        }
        Err(error) => failed(SINGLE, &error),
    };
    vec![first, second]
}

fn is_refused<T>(result: &Result<T, AttachError>) -> bool {
    result.as_ref().is_err_and(AttachError::is_permission)
}

fn load() -> Result<Kernel, AttachError> {
    Kernel::load(&Settings::of_probes(
        std::process::id(),
        Capacity { sites: 1, types: 1 },
        Default::default(),
    ))
}

fn events(mut kernel: Kernel) -> Vec<Check> {
    const SAMPLES_A_SECOND: u32 = 99;
    // Programs that are loaded later refer to the buffer, so it is kept.
    let buffer = kernel.take_events();
    let tracepoints = kernel
        .load_tracepoints()
        .and_then(|()| kernel.attach_tracepoints());
    let sampler = kernel.attach_sampler(SAMPLES_A_SECOND);
    let registers = kernel.thread_registers(std::process::id());
    let buffer = buffer.map(drop);
    vec![
        verdict("ring buffer", "for polls and stacks", buffer),
        verdict(
            "scheduler tracepoints",
            "for waiting time and its stacks",
            tracepoints,
        ),
        sampler_verdict(sampler),
        iterator(registers),
    ]
}

/// Without it everything else works.
fn sampler_verdict(result: Result<(), AttachError>) -> Check {
    const NAME: &str = "cpu-clock sampler";
    match result {
        Err(error) if error.is_permission() && capabilities::missing().is_empty() => Check::advice(
            NAME,
            "refused, although CAP_PERFMON is there: computing polls have no stacks",
            "run with sudo, or: sudo sysctl kernel.perf_event_paranoid=2",
        ),
        result => verdict(NAME, "for the stacks of computing polls", result),
    }
}

/// Without it everything else works.
fn iterator(registers: Result<Vec<ThreadRegisters>, AttachError>) -> Check {
    const NAME: &str = "task iterator";
    match registers {
        Ok(threads) if !threads.is_empty() => {
            Check::good(NAME, "for polls that were stuck before the attach")
        }
        Ok(_) => Check::note(
            NAME,
            "finds no threads; polls that were stuck before the attach are not seen",
        ),
        Err(error) => Check::note(
            NAME,
            format!(
                "not here ({error}); polls that were stuck before the attach are seen only while they compute"
            ),
        ),
    }
}

fn verdict(name: &'static str, purpose: &str, result: Result<(), AttachError>) -> Check {
    match result {
        Ok(()) => Check::good(name, purpose),
        Err(error) => failed(name, &error),
    }
}

fn failed(name: &'static str, error: &AttachError) -> Check {
    let mend = if error.is_permission() {
        PERMISSION
    } else {
        TOO_OLD
    };
    Check::bad(name, error.to_string().trim_end(), mend)
}
