//! Polls that are stuck already when loopprobe attaches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loopprobe::model::{Cause, Frame, LongPoll};
use loopprobe_tests::matrix::{self, Build, Profile, target};
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;
use serde::Deserialize;

/// Within this time of the attach a stuck poll must be diagnosed.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the target says of its tasks.
#[derive(Deserialize)]
struct Truth {
    tasks: usize,
    file: String,
    task_line: u32,
    function: String,
}

#[test]
fn a_worker_that_is_blocked() -> Result<()> {
    on_every_build("block", Cause::Sleep)?;
    on_every_build("lock", Cause::Lock)
}

#[test]
fn a_worker_that_spins() -> Result<()> {
    on_every_build("spin", Cause::Cpu)
}

#[test]
fn all_workers_at_once() -> Result<()> {
    on_every_build("all_block", Cause::Sleep)?;
    on_every_build("all_lock", Cause::Lock)?;
    on_every_build("all_spin", Cause::Cpu)
}

#[test]
fn a_loop_on_one_thread() -> Result<()> {
    on_every_build("current_block", Cause::Sleep)?;
    on_every_build("current_lock", Cause::Lock)?;
    on_every_build("current_spin", Cause::Cpu)
}

fn on_every_build(scenario: &str, cause: Cause) -> Result<()> {
    for build in [Build::DEFAULT, Build::DEFAULT.stripped()] {
        check(build, scenario, cause).with_context(|| format!("{scenario}, {build:?}"))?;
    }
    Ok(())
}

/// A stuck poll is found, with its cause and place, and no thread is in doubt.
pub(crate) fn check(build: Build, scenario: &str, cause: Cause) -> Result<()> {
    share_machine!();
    let path = target(build, "stuck")?;
    // If loopprobe had to be built only after the target has started, the poll would be over.
    matrix::loopprobe()?;
    let target = Target::start(&path, &[scenario, "--millis", "4000", "--hold"])?;
    let said = target.head.iter().find(|line| line["type"] == "stuck");
    let truth: Truth = serde_json::from_value(said.context("it says where it is stuck")?.clone())?;
    let mut session = Session::attach(target.pid(), &[])?;
    let mut open = BTreeMap::new();
    while open.len() < truth.tasks {
        let poll = session.next_poll(PATIENCE)?;
        ensure!(!poll.ended && poll.since_before_attach, "{poll:?}");
        ensure!(
            u128::from(poll.duration_ns) <= PATIENCE.as_nanos(),
            "late: {poll:?}"
        );
        says_what_and_where(&poll, &truth, cause, build)?;
        open.insert(poll.tid, poll);
    }
    let polls = target.truth()?;
    let report = session.interrupt()?;
    let lost = report.summary.lost.context("what was lost")?;
    ensure!(lost.unwalked_threads == 0, "{lost:?}, {:?}", report.head);
    let longest = polls
        .iter()
        .map(loopprobe_tests::truth::Poll::duration_ns)
        .max()
        .unwrap_or(0);
    let stuck: BTreeSet<_> = polls
        .iter()
        .filter(|poll| poll.kind == "async" && poll.duration_ns() * 2 > longest)
        .map(|poll| (poll.tid, poll.task_id))
        .collect();
    ensure!(stuck.len() == truth.tasks, "{stuck:?}");
    for poll in open.values() {
        let same = |&(tid, id)| tid == poll.tid && (poll.task_id.is_none() || poll.task_id == id);
        ensure!(stuck.iter().any(same), "{poll:?} is none of {stuck:?}");
    }
    let too_long = report
        .polls
        .iter()
        .find(|poll| poll.duration_ns > longest + 1_000_000);
    ensure!(too_long.is_none(), "longer than the truth: {too_long:?}");
    Ok(())
}

fn says_what_and_where(poll: &LongPoll, truth: &Truth, cause: Cause, build: Build) -> Result<()> {
    let found = poll.diagnosis.as_ref().context("no diagnosis")?;
    // Workers that spin share the CPUs with whatever else the machine does: most of the time, that
    // may be the true cause.
    let others_had_the_cpu = poll
        .split
        .is_some_and(|split| split.runnable_ns * 2 > poll.duration_ns);
    ensure!(
        found.cause == cause || others_had_the_cpu && found.cause == Cause::Preempted,
        "{:?}: {poll:#?}",
        found.cause
    );
    if build.stripped {
        let location = poll.task.location.as_ref().context("no location")?;
        ensure!(
            location.file.ends_with(&truth.file) && location.line == truth.task_line,
            "{location:?}"
        );
    } else {
        ensure!(poll.task.name.contains("stuck::task"), "{:?}", poll.task);
        let is_unguided = build.profile == Profile::FramePointers;
        let mut frames = poll.stacks.iter().flat_map(|stack| &stack.frames);
        // A function whose last call is the one that blocks jumps to it and leaves no frame; then
        // its caller is the innermost.
        let is_there = |frame: &Frame| {
            let named = frame.function.as_ref();
            let defined = frame.definition.as_ref().or(frame.near.as_ref());
            // No table tells where a definition's function begins then: the caller is told by the
            // future that it polls.
            named.is_some_and(|name| name.contains(&truth.function))
                || is_unguided && named.is_some_and(|name| name.contains("truth::Timed"))
                || defined.is_some_and(|at| at.file.ends_with(&truth.file))
        };
        ensure!(
            frames.any(is_there),
            "{} is not on the stack: {poll:#?}",
            truth.function
        );
    }
    Ok(())
}
