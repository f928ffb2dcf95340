//! Every poll over the threshold is reported, none under it, with its start, duration, thread and
//! task.

use anyhow::{Result, ensure};
use loopprobe::model::Lost;
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::{Build, Profile, Tokio};
use loopprobe_tests::scenario::{THRESHOLD_NS, run};
use loopprobe_tests::share_machine;

fn measure(build: Build, scenario: &str) -> Result<()> {
    share_machine!();
    let (truth, report) = run(build, scenario, &[])?;
    let what = format!(
        "{scenario}, tokio {}, {:?}, stripped: {}",
        build.tokio, build.profile, build.stripped
    );
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check(&what)?;
    // No root future of these scenarios takes long.
    compare(&truth, &report.polls, "root", THRESHOLD_NS)?;
    ensure!(report.status.success(), "{what}: {}", report.status);
    // Stacks are not at stake here, and some virtual machines' kernels do not show every switch.
    let lost = Lost {
        switches: 0,
        incomplete_stacks: 0,
        stacks: 0,
        unresolved_frames: 0,
        ..report.summary.lost.unwrap_or_default()
    };
    ensure!(lost.is_empty(), "{what}: {lost:?}");
    Ok(())
}

#[test]
fn blocking_sleeps_are_exact() -> Result<()> {
    measure(Build::DEFAULT, "sleep")
}

#[test]
fn blocking_sleeps_are_exact_in_a_stripped_program() -> Result<()> {
    measure(Build::DEFAULT.stripped(), "sleep")
}

#[test]
fn cpu_loops_are_exact() -> Result<()> {
    measure(Build::DEFAULT, "cpu")
}

#[test]
fn cpu_loops_are_exact_in_a_stripped_program() -> Result<()> {
    measure(Build::DEFAULT.stripped(), "cpu")
}

#[test]
fn nested_runtimes_are_exact() -> Result<()> {
    measure(Build::DEFAULT, "nested")
}

#[test]
fn nested_runtimes_are_exact_in_a_stripped_program() -> Result<()> {
    measure(Build::DEFAULT.stripped(), "nested")
}

#[test]
fn a_local_set_is_exact() -> Result<()> {
    measure(Build::DEFAULT, "local_set")
}

#[test]
fn a_join_set_is_exact() -> Result<()> {
    measure(Build::DEFAULT, "join_set")
}

#[test]
fn a_current_thread_runtime_is_exact() -> Result<()> {
    measure(Build::DEFAULT, "current_thread")
}

#[test]
fn a_current_thread_runtime_is_exact_in_a_stripped_program() -> Result<()> {
    measure(Build::DEFAULT.stripped(), "current_thread")
}

#[test]
fn fat_lto_is_exact() -> Result<()> {
    let build = Build {
        profile: Profile::Fat,
        ..Build::DEFAULT
    };
    measure(build.stripped(), "sleep")
}

#[test]
fn panic_abort_is_exact() -> Result<()> {
    let build = Build {
        profile: Profile::Abort,
        ..Build::DEFAULT
    };
    measure(build.stripped(), "sleep")
}

#[test]
fn an_old_tokio_is_exact() -> Result<()> {
    let build = Build {
        tokio: Tokio::Exactly("1.28.2"),
        ..Build::DEFAULT
    };
    measure(build.stripped(), "sleep")
}
