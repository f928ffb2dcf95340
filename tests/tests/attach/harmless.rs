//! The target is never harmed: panics, backtraces, and loopprobe's own death leave it as it was.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::matrix::{Build, target};
use loopprobe_tests::programs::{self, Program};
use loopprobe_tests::scenario::gated;
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;
use loopprobe_tests::text::{changed_bytes, until_clean};

fn panicking(build: Build) -> Result<()> {
    share_machine!();
    let path = target(build, "pan")?;
    let mut target = Target::start(&path, &["--gate", "before", "--rounds", "200", "--hold"])?;
    let session = Session::attach(target.pid(), &[])?;
    target.send("go")?;
    let said = target.until("counters", Duration::from_mins(1))?;
    let counters = &said[said.len() - 1];
    for (name, wanted) in [
        ("panicked", 400),
        ("caught", 200),
        ("dropped", 600),
        ("captured", 200),
    ] {
        ensure!(
            counters[name] == wanted,
            "{name} should be {wanted}: {counters}"
        );
    }
    let report = session.interrupt()?;
    ensure!(target.is_alive()?, "the target died");
    let long = report.ended().len();
    ensure!(
        long >= 20,
        "20 tasks panicked after 12 ms, {long} long polls were reported"
    );
    let lost = report.summary.lost.context("what was lost is not known")?;
    ensure!(lost.unmatched_starts == 0, "{lost:?}");
    ensure!(lost.unmatched_ends == 0, "{lost:?}");
    Ok(())
}

#[test]
fn panicking_tasks_and_backtraces_are_not_harmed() -> Result<()> {
    panicking(Build::DEFAULT)
}

#[test]
fn panicking_tasks_and_backtraces_are_not_harmed_in_a_stripped_program() -> Result<()> {
    panicking(Build::DEFAULT.stripped())
}

#[test]
fn killing_loopprobe_under_load_leaves_the_target_running_and_its_text_clean() -> Result<()> {
    share_machine!();
    let path = target(Build::DEFAULT, "busy")?;
    let mut target = Target::start(&path, &["--millis", "100000", "--rounds", "100"])?;
    ensure!(
        changed_bytes(target.pid())? == 0,
        "the text is changed before anything happened"
    );
    for _ in 0..3 {
        let session = Session::attach(target.pid(), &["--threshold", "0"])?;
        ensure!(
            changed_bytes(target.pid())? > 0,
            "no probe is in the text: this check could not fail"
        );
        session.signal(libc::SIGKILL);
        drop(session);
        until_clean(target.pid())?;
        ensure!(target.is_alive()?, "the target died");
        // It still polls: the rate comes from the target itself.
        let said = target.until("rate", Duration::from_secs(20))?;
        ensure!(
            said.last()
                .is_some_and(|line| line["polls_per_second"].as_u64() > Some(0)),
            "it polls no more: {said:?}"
        );
    }
    Ok(())
}

#[test]
fn a_normal_end_leaves_the_text_clean() -> Result<()> {
    share_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["short"])?;
    let session = Session::attach(target.pid(), &[])?;
    ensure!(
        changed_bytes(target.pid())? > 0,
        "no probe is in the text: this check could not fail"
    );
    target.work()?;
    session.interrupt()?;
    ensure!(
        changed_bytes(target.pid())? == 0,
        "probes are left in the text"
    );
    Ok(())
}

/// Programs of uprobes can be preempted, and another thread on the same CPU can enter them then.
#[test]
fn programs_of_probes_run_on_the_stack_of_their_thread() -> Result<()> {
    share_machine!();
    for args in [&[][..], &["--light"]] {
        let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
        let session = Session::attach(target.pid(), args)?;
        let programs = programs::of(session.pid())?;
        let with = |wanted: fn(&Program) -> bool| programs.iter().filter(move |p| wanted(p));
        let probes =
            with(|program| program.name.ends_with("_enter") || program.name == "poll_exit");
        let shared: Vec<&str> = probes
            .clone()
            .filter(|program| has_shared_stack(program))
            .map(|program| program.name.as_str())
            .collect();
        ensure!(shared.is_empty(), "on a stack a CPU: {shared:?}");
        ensure!(probes.count() >= 4, "{programs:?}");
        // The kernel guards these, so they may have one; if none has, the test looks for the wrong
        // thing.
        ensure!(
            kernel_before(6, 13)? || with(|p| p.name == "sched_switch").any(has_shared_stack),
            "no program is on a stack a CPU"
        );
        session.interrupt()?;
    }
    Ok(())
}

/// Whether a program finds its stack by the CPU that it runs on: `add r9, gs:this_cpu_off`
/// (`emit_priv_frame_ptr` in `arch/x86/net/bpf_jit_comp.c`, Linux 6.13).
fn has_shared_stack(program: &Program) -> bool {
    const ADD: &[u8] = &[0x65, 0x4c, 0x03, 0x0c, 0x25];
    program.code.windows(ADD.len()).any(|code| code == ADD)
}

fn kernel_before(major: u32, minor: u32) -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map(str::parse);
    let mut number = || numbers.next().context("a version")?.context("a number");
    Ok((number()?, number()?) < (major, minor))
}
