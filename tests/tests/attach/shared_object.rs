//! Tokio inside a shared object, loaded before or after the attach.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::{Build, target};
use loopprobe_tests::scenario::THRESHOLD_NS;
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;

fn check(build: Build) -> Result<()> {
    share_machine!();
    let library = target(build, "libplugin.so")?;
    let program = target(build, "late_tokio")?;
    let mut host = Target::start(&program, &[&library.to_string_lossy(), "20"])?;
    host.send("load")?;
    host.until("loaded", Duration::from_secs(10))?;
    let session = Session::attach(host.pid(), &[])?;
    host.send("go")?;
    let truth = host.truth()?;
    let report = session.interrupt()?;
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("a shared object")
}

#[test]
fn tokio_in_a_shared_object() -> Result<()> {
    check(Build::DEFAULT)
}

#[test]
fn tokio_in_a_stripped_shared_object() -> Result<()> {
    check(Build::DEFAULT.stripped())
}

#[test]
fn a_shared_object_loaded_after_the_attach_is_found() -> Result<()> {
    share_machine!();
    let library = target(Build::DEFAULT, "libplugin.so")?;
    let program = target(Build::DEFAULT, "loader")?;
    let mut command = Command::new(program);
    command.args(["--rounds", "100", "--gate", "before", "--hold"]);
    let mut loader = Target::spawn(command.env("PLUGIN", library))?;
    let session = Session::attach(loader.pid(), &[])?;
    loader.send("go")?;
    // The plugin prints its own truth; then the loader prints its empty one.
    let mut truth = loader.truth()?;
    let report = session.interrupt()?;
    // What ran before the library was found is not seen; from the first report on, everything is.
    let polls = truth.len();
    let first = report.polls.iter().map(|poll| poll.start_ns).min();
    truth.retain(|poll| first.is_some_and(|first| poll.start_ns + 1_000_000 >= first));
    ensure!(
        truth.len() > polls / 2,
        "the library was found too late: {} of {polls} polls, {:?}",
        truth.len(),
        report.notices
    );
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("a shared object loaded later")
}
