//! When loopprobe comes: before the runtime, in the middle of a poll, to several runtimes at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::{Build, target};
use loopprobe_tests::scenario::{THRESHOLD_NS, every_poll_is_counted, gated, observe, since};
use loopprobe_tests::session::Session;
use loopprobe_tests::take_machine;
use loopprobe_tests::target::Target;

#[test]
fn attached_before_the_runtime_starts() -> Result<()> {
    take_machine!();
    let path = target(Build::DEFAULT.stripped(), "truth")?;
    let mut target = Target::start(&path, &["sleep", "--gate", "before", "--hold"])?;
    let (truth, report) = observe(&mut target, &[])?;
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("attached before the runtime")?;
    every_poll_is_counted(&truth, &report)
}

#[test]
fn attached_to_several_runtimes() -> Result<()> {
    take_machine!();
    let (truth, report) = observe(&mut gated(Build::DEFAULT, "truth", &["runtimes"])?, &[])?;
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("several runtimes")
}

#[test]
fn a_poll_that_goes_on_is_reported_while_it_runs_and_once_more_when_it_ends() -> Result<()> {
    take_machine!();
    let path = target(Build::DEFAULT.stripped(), "stuck")?;
    let mut target = Target::start(
        &path,
        &["block", "--millis", "3000", "--gate", "before", "--hold"],
    )?;
    let mut session = Session::attach(target.pid(), &[])?;
    target.send("go")?;
    let open = session.next_poll(Duration::from_secs(10))?;
    ensure!(
        !open.ended && !open.since_before_attach,
        "it is seen from its start, and still runs: {open:?}"
    );
    let truth = target.truth()?;
    let report = session.interrupt()?;
    // A thread that slept for seconds wakes with cold caches; one poll is no statistics, so only
    // the match counts.
    let result = compare(&truth, &report.polls, "async", THRESHOLD_NS)?;
    ensure!(result.matched == 1, "{} polls", result.matched);
    let ended = report.ended();
    ensure!(
        ended.len() == 1 && ended[0].start_ns == open.start_ns,
        "not the same poll: {ended:?}"
    );
    Ok(())
}

#[test]
fn a_poll_in_progress_at_the_attach_does_not_disturb_those_after_it() -> Result<()> {
    take_machine!();
    let path = target(Build::DEFAULT, "truth")?;
    let mut target = Target::start(
        &path,
        &["sleep", "--rounds", "400", "--gate", "inside", "--hold"],
    )?;
    target.send("go")?;
    let session = Session::attach(target.pid(), &[])?;
    let mut truth = target.truth()?;
    let report = session.interrupt()?;
    ensure!(
        truth[0].start_ns < report.head.start_ns,
        "the work had not begun"
    );
    since(&mut truth, report.head.start_ns);
    let mut report = report;
    report
        .polls
        .retain(|poll| !poll.since_before_attach && poll.start_ns >= report.head.start_ns);
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("attached in the middle")
}
