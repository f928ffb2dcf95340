//! The target is never harmed: panics, backtraces, and loopprobe's own death leave it as it was.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::matrix::{Build, target};
use loopprobe_tests::scenario::gated;
use loopprobe_tests::session::Session;
use loopprobe_tests::take_machine;
use loopprobe_tests::target::Target;
use loopprobe_tests::text::{changed_bytes, until_clean};

fn panicking(build: Build) -> Result<()> {
    take_machine!();
    let path = target(build, "pan")?;
    let mut target = Target::start(&path, &["--gate", "before", "--rounds", "200", "--hold"])?;
    let session = Session::attach(target.pid(), &[])?;
    target.send("go")?;
    let said = target.until("counters", Duration::from_secs(60))?;
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
    take_machine!();
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
    take_machine!();
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
