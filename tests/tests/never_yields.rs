//! Many ready awaits in one poll are told from one long computation, and counted.

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Cause, LongPoll};
use loopprobe_tests::accuracy::TOLERANCE_NS;
use loopprobe_tests::matrix::{Build, Profile};
use loopprobe_tests::scenario::{gated, observe};
use loopprobe_tests::take_machine;
use loopprobe_tests::truth::Poll;

/// As the target has it.
const TURNS: u64 = 1_000;
/// How many short turns it has for each.
const SHORT: u64 = 20;
const ROUNDS: usize = 40;

/// Loops whose awaits are all ready, and others.
const READY: [&str; 6] = [
    "inlined", "called", "received", "drained", "locked", "cached",
];
const COMPUTING: [&str; 6] = ["plain", "flags", "few", "outer", "checked", "due"];

#[test]
fn ready_awaits_are_told_from_a_computation_with_symbols() -> Result<()> {
    check(Build::DEFAULT)
}

#[test]
fn ready_awaits_are_told_from_a_computation_in_a_stripped_file() -> Result<()> {
    let fat = Build {
        profile: Profile::Fat,
        ..Build::DEFAULT
    };
    check(fat.stripped())
}

fn check(build: Build) -> Result<()> {
    take_machine!();
    let rounds = ROUNDS.to_string();
    let mut target = gated(build, "awaits", &["--rounds", &rounds])?;
    let (truth, report) = observe(&mut target, &[])?;
    for label in READY {
        let polls = of(label, &truth, &report.ended());
        // Of those that others had the CPU for, that is the cause.
        let preempted = polls.iter().filter(|poll| is_preempted(poll)).count();
        let mut counted: Vec<u64> = polls.iter().filter_map(|poll| awaits(poll)).collect();
        // The first polls tell where to look; how many there are until that is known depends on how
        // long names take. From then on nearly all are told.
        let first = polls.iter().position(|poll| awaits(poll).is_some());
        let later = polls.len() - first.with_context(|| format!("{label}: {polls:#?}"))?;
        ensure!(
            later * 4 >= ROUNDS && counted.len() + preempted + 4 >= later,
            "{label}: {counted:?} of {later} later polls: {polls:#?}"
        );
        let turns = if label == "received" {
            SHORT * TURNS
        } else {
            TURNS
        };
        // It is a bound, and on a virtual machine a low one. A poll during which the machine itself
        // stood still seems to have had more.
        counted.sort_unstable();
        let median = counted[counted.len() / 2];
        ensure!(
            (turns / 100..=turns).contains(&median),
            "{label}: {counted:?} awaits"
        );
        if label == "inlined" {
            let named = |poll: &&LongPoll| {
                let evidence = poll
                    .diagnosis
                    .as_ref()
                    .and_then(|d| d.evidence.get("awaits"));
                evidence.is_some_and(|said| said.contains("src/bin/awaits.rs:"))
            };
            ensure!(polls.iter().any(named), "{polls:#?}");
        }
    }
    for label in COMPUTING {
        let polls = of(label, &truth, &report.ended());
        ensure!(polls.len() * 2 > ROUNDS, "{label}: {} polls", polls.len());
        for poll in polls {
            let cause = poll.diagnosis.as_ref().context("a diagnosis")?.cause;
            ensure!(
                matches!(cause, Cause::Cpu | Cause::Preempted),
                "{label}: {poll:#?}"
            );
        }
    }
    Ok(())
}

/// The reports of a label's long polls.
fn of<'a>(label: &str, truth: &[Poll], polls: &[&'a LongPoll]) -> Vec<&'a LongPoll> {
    let is_labels = |poll: &&&LongPoll| {
        truth.iter().any(|one| {
            one.label == label
                && one.tid == poll.tid
                && one.start_ns.abs_diff(poll.start_ns) < TOLERANCE_NS
        })
    };
    polls.iter().filter(is_labels).copied().collect()
}

fn is_preempted(poll: &LongPoll) -> bool {
    let cause = poll.diagnosis.as_ref().map(|found| found.cause);
    cause == Some(Cause::Preempted)
}

/// How many awaits a poll is said to have run, if it never yields.
fn awaits(poll: &LongPoll) -> Option<u64> {
    let found = poll.diagnosis.as_ref()?;
    let said = found
        .evidence
        .get("awaits")
        .filter(|_| found.cause == Cause::NeverYields)?;
    said.split(' ').find_map(|word| word.parse().ok())
}
