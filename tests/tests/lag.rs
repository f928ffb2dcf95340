//! `--lag`: how long tasks wait from their wake to their poll, as they say themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{
    elf::Image,
    model::{FindingKind, WakeToPoll},
    runtime::{RUNTIMES, sketch},
};
use loopprobe_tests::{
    matrix::{self, Build, Profile, Tokio},
    privileges,
    session::{Report, Session},
    take_machine,
    target::Target,
};

const MS: u64 = 1_000_000;
/// How far a mean may be from the target's own: its clock is read a little before the probe, and a
/// little after.
const TOLERANCE_NS: u64 = 20_000;

/// Count, total and maximum by label.
type Truth = BTreeMap<String, (u64, u64, u64)>;

fn run(build: Build, scenario: &str) -> Result<(Truth, Report)> {
    let program = matrix::target(build, "delays")?;
    let args = [scenario, "--rounds", "12", "--gate", "inside", "--hold"];
    let mut target = Target::start(&program, &args)?;
    let session = Session::attach(target.pid(), &["--lag", "--interval", "500ms"])?;
    target.send("go")?;
    let lines = target.until("delays", Duration::from_secs(20))?;
    let truth = serde_json::from_value(lines.last().context("a line")?["of"].clone())?;
    Ok((truth, session.interrupt()?))
}

/// Held against the target's record of all its tasks.
fn check(build: Build, scenario: &str) -> Result<Report> {
    let (truth, report) = run(build, scenario)?;
    let count: u64 = truth.values().map(|of| of.0).sum();
    let total_ns: u64 = truth.values().map(|of| of.1).sum();
    let max_ns = truth.values().map(|of| of.2).max().context("some")?;
    let said = report.summary.wake_to_poll.as_deref().context("said")?;
    println!(
        "{build:?} {scenario}: {said:?}, in truth {count}, mean {}, max {max_ns}",
        total_ns / count
    );
    ensure!(said.unseen == 0, "{said:?}");
    ensure!(said.count == count, "{said:?} of {count}: {truth:?}");
    let mean_ns = total_ns / count;
    ensure!(
        said.mean_ns.abs_diff(mean_ns) < TOLERANCE_NS,
        "{said:?}: {truth:?}"
    );
    ensure!(said.max_ns.abs_diff(max_ns) < MS, "{said:?}: {truth:?}");
    let of_intervals: u64 = report
        .intervals
        .iter()
        .filter_map(|of| Some(of.wake_to_poll?.count))
        .sum();
    ensure!(
        of_intervals <= said.count && of_intervals * 2 > said.count,
        "{of_intervals}"
    );
    // What waited behind the blocker is what it has woken, from then on.
    let (late, late_ns, _) = truth["late"];
    let mut groups = report.summary.groups.iter();
    let waits = groups.find_map(|group| group.waits);
    if late_ns / late < 20 * MS {
        ensure!(waits.is_none(), "{:?}", report.summary.groups);
    } else {
        let waits = waits.context("waits")?;
        let (at_least, at_most) = (late_ns * 9 / 10, late_ns * 11 / 10);
        ensure!(waits.count.abs_diff(12) <= 1, "{waits:?}");
        ensure!((at_least..at_most).contains(&waits.total_ns), "{waits:?}");
    }
    Ok(report)
}

/// The type of the task that is woken by a poll which goes on.
fn late(report: &Report) -> Result<WakeToPoll> {
    let mut tasks = report.summary.tasks.iter();
    let late = tasks.find(|row| row.task.name.contains("late"));
    late.context("late")?.wake_to_poll.context("its delays")
}

/// One for each scheduler, which the kernel emulates; without symbols the same.
#[test]
fn where_tasks_are_scheduled_is_found_in_every_build() -> Result<()> {
    let _place = privileges::place()?;
    let points = |build| -> Result<_> {
        let image = Image::open(&matrix::target(build, "zoo")?)?;
        let found = sketch(RUNTIMES, &image, None)?;
        let runtime = found.first().context("no runtime")?;
        Ok(runtime.facts().marks.schedule.clone())
    };
    for build in matrix::cells() {
        let found = points(build).with_context(|| format!("{build:?}"))?;
        let schedulers: BTreeSet<&str> = found.iter().map(|point| point.scheduler).collect();
        println!("{build:?}: {found:?}");
        ensure!(
            schedulers.contains("multi_thread") && schedulers.contains("current_thread"),
            "{build:?}: {found:?}"
        );
        ensure!(
            found.iter().all(|point| point.at.emulated),
            "{build:?}: {found:?}"
        );
        ensure!(found == points(build.stripped())?, "{build:?}, stripped");
    }
    Ok(())
}

#[test]
fn delays_are_those_that_the_target_has_seen() -> Result<()> {
    take_machine!();
    let of = |profile| Build {
        profile,
        ..Build::DEFAULT
    };
    let builds = [
        Build::DEFAULT,
        of(Profile::Fat).stripped(),
        of(Profile::Musl),
    ];
    for build in builds {
        for scenario in ["multi", "current", "local"] {
            check(build, scenario).with_context(|| format!("{build:?} {scenario}"))?;
        }
    }
    let oldest = Build {
        tokio: Tokio::Exactly("1.23.1"),
        ..Build::DEFAULT
    };
    check(oldest, "multi").with_context(|| format!("{oldest:?}"))?;
    Ok(())
}

#[test]
fn a_task_in_the_lifo_slot_waits_for_the_poll_that_has_woken_it() -> Result<()> {
    take_machine!();
    for (version, waits) in [
        (Tokio::Exactly("1.50.0"), true),
        (Tokio::Exactly("1.51.0"), false),
        (Tokio::Newest, true),
    ] {
        let build = Build {
            tokio: version,
            ..Build::DEFAULT
        };
        let report = check(build, "multi").with_context(|| format!("{version}"))?;
        let late = late(&report)?;
        println!("{version}: {late:?}, {:?}", report.findings);
        let found: Vec<_> = report
            .findings
            .iter()
            .filter(|found| found.kind == FindingKind::LifoSlot)
            .collect();
        if !waits {
            ensure!(
                late.p50_ns < 20 * MS && found.is_empty(),
                "{late:?} {found:?}"
            );
            continue;
        }
        ensure!((87 * MS..115 * MS).contains(&late.p50_ns), "{late:?}");
        let first = found.first().context("a finding")?;
        let evidence = &first.evidence;
        ensure!(
            evidence
                .task
                .as_ref()
                .is_some_and(|task| task.contains("late")),
            "{evidence:?}"
        );
        ensure!(evidence.idle_workers == Some(1), "{evidence:?}");
        let poll = evidence.polls.first().context("a poll")?;
        ensure!(poll.task.contains("blocker"), "{poll:?}");
        // It asks for 100 ms, and may get more.
        let waited_ns = evidence.duration_ns;
        ensure!(
            waited_ns > 90 * MS && waited_ns.abs_diff(poll.duration_ns) < 10 * MS,
            "{evidence:?}"
        );
    }
    Ok(())
}

#[test]
fn without_being_asked_nothing_is_said_of_wakes() -> Result<()> {
    take_machine!();
    let program = matrix::target(Build::DEFAULT, "delays")?;
    let target = Target::start(&program, &["multi", "--rounds", "2"])?;
    let report =
        Session::attach(target.pid(), &["--duration", "1s", "--interval", "500ms"])?.finish()?;
    ensure!(report.summary.wake_to_poll.is_none());
    ensure!(report.intervals.iter().all(|of| of.wake_to_poll.is_none()));
    Ok(())
}
