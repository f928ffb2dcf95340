//! Findings of a session that looks at tasks: stuck, slow, or ever more.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Finding, FindingKind};
use loopprobe_tests::{
    halve_machine,
    matrix::{self, Build, Tokio},
    session::Session,
    share_machine,
    target::Target,
};
use serde_json::Value;

use crate::crowd;

/// Tasks that await `pending` have no waker, those with a timer have one.
#[test]
fn tasks_that_nothing_can_wake_are_found_with_their_await() -> Result<()> {
    share_machine!();
    for (tokio, stripped) in [(Tokio::Newest, true), (Tokio::Exactly("1.28.2"), false)] {
        let build = Build {
            tokio,
            stripped,
            ..Build::DEFAULT
        };
        let (target, truth, found) = crowd(build)?;
        let waits = |task: &&Value| {
            let at = task["await"].as_u64();
            task["name"] == "waits_for_ever" || task["name"] == "waits_at" && at != Some(3)
        };
        let stuck = truth.iter().filter(waits);
        let stuck: BTreeSet<u64> = stuck.filter_map(|task| task["task_id"].as_u64()).collect();
        let tasks = found["tasks"].as_array().context("tasks")?;
        let marked = tasks.iter().filter(|task| task["no_waker"] == true);
        let marked: BTreeSet<u64> = marked.filter_map(|task| task["id"].as_u64()).collect();
        assert_eq!(marked, stuck, "{build:?}");
        let args = ["--stuck", "1s", "--duration", "6s"];
        let report = Session::attach(target.pid(), &args)?.finish()?;
        let findings = report.findings.iter();
        let findings: Vec<_> = findings
            .filter(|f| f.kind == FindingKind::StuckTask)
            .collect();
        let told: u64 = findings.iter().filter_map(|f| f.evidence.tasks).sum();
        assert_eq!(told, stuck.len() as u64, "{findings:?}");
        for finding in &findings {
            let evidence = &finding.evidence;
            let ids = evidence.task_ids.iter();
            ensure!(
                ids.clone().count() > 0 && ids.clone().all(|id| stuck.contains(id)),
                "{evidence:?}"
            );
            ensure!(
                evidence.certain && evidence.duration_ns >= 1_000_000_000,
                "{evidence:?}"
            );
        }
        let numbers = findings
            .iter()
            .filter_map(|f| f.evidence.awaits.first()?.number);
        let numbers: BTreeSet<u32> = numbers.collect();
        ensure!(numbers.contains(&1), "{findings:?}");
        ensure!(
            numbers.is_subset(&BTreeSet::from([1, 2, 5])),
            "{findings:?}"
        );
    }
    Ok(())
}

/// Every task that stays is told, and no closure of the blocking pool.
#[test]
fn tasks_that_live_for_long_are_found() -> Result<()> {
    share_machine!();
    let (target, truth, _) = crowd(Build::DEFAULT.stripped())?;
    let args = ["--slow-task", "1s", "--duration", "6s"];
    let report = Session::attach(target.pid(), &args)?.finish()?;
    let of_kind = |f: &&Finding| f.kind == FindingKind::SlowTask;
    let slow: Vec<_> = report.findings.iter().filter(of_kind).collect();
    let living = truth.iter().filter(|task| task["kind"] == "async");
    let living: BTreeSet<u64> = living.filter_map(|task| task["task_id"].as_u64()).collect();
    let told: u64 = slow.iter().filter_map(|f| f.evidence.tasks).sum();
    assert_eq!(told, living.len() as u64, "{slow:?}");
    for finding in slow {
        let evidence = &finding.evidence;
        let ids = evidence.task_ids.iter();
        ensure!(
            evidence.certain
                && ids.clone().count() > 0
                && ids.clone().all(|id| living.contains(id)),
            "{evidence:?}"
        );
        ensure!(evidence.duration_ns >= 1_000_000_000, "{evidence:?}");
    }
    Ok(())
}

/// Of four types only one becomes more; the oldest of it are those that the program spawned first,
/// and wait where it says.
#[test]
fn a_type_whose_tasks_only_become_more_is_found() -> Result<()> {
    halve_machine!();
    let build = Build::DEFAULT.stripped();
    let target = Target::start(&matrix::target(build, "crowd")?, &["leaks"])?;
    let mut session = Session::attach(target.pid(), &["--stuck", "1s"])?;
    let found = session.next_finding(FindingKind::Leak, Duration::from_secs(40))?;
    let evidence = found.evidence;
    let (before, now) = (evidence.tasks_before, evidence.tasks);
    let (before, now) = (before.context("before")?, now.context("now")?);
    // One comes every 5 ms, at most.
    let most = evidence.duration_ns / 5_000_000 + 20;
    ensure!(
        now >= 2 * before && now >= before + 100 && now - before <= most,
        "{evidence:?}"
    );
    ensure!(
        evidence.task_ids.is_sorted() && !evidence.certain,
        "{evidence:?}"
    );
    let number = evidence.awaits.first().and_then(|point| point.number);
    ensure!(number == Some(3), "{evidence:?}");
    let report = session.interrupt()?;
    let others = report
        .findings
        .iter()
        .filter(|found| found.kind != FindingKind::Leak || found.evidence.task != evidence.task);
    // Those that are notified by nobody are stuck.
    let kinds: BTreeSet<_> = others.map(|found| found.kind).collect();
    ensure!(
        kinds.iter().all(|kind| *kind == FindingKind::StuckTask),
        "{:?}",
        report.findings
    );
    Ok(())
}
