//! Locks that were handed to futures which are not polled any more, against programs that know.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Evidence, Finding, FindingKind};
use loopprobe_tests::{
    matrix::{self, Build, Profile, Tokio},
    session::Session,
    share_machine,
    target::Target,
};

/// What a task keeps: whether it waits for it itself, and how many futures do.
type Kept = BTreeMap<u64, (bool, u64)>;

fn start(build: Build, scenario: &str) -> Result<Target> {
    Target::start(&matrix::target(build, "locks")?, &[scenario])
}

/// What is found until there are so many.
fn found(target: &Target, expected: usize) -> Result<Vec<Finding>> {
    let mut session = Session::attach(target.pid(), &["--stuck", "2s"])?;
    for _ in 0..expected {
        // Looks take a fiftieth of the time: on a busy machine there are few of them.
        session.next_finding(FindingKind::Futurelock, Duration::from_mins(1))?;
    }
    // All are told at the same look.
    std::thread::sleep(Duration::from_millis(500));
    let report = session.interrupt()?;
    let of_kind = |found: &Finding| found.kind == FindingKind::Futurelock;
    Ok(report.findings.into_iter().filter(of_kind).collect())
}

/// Every lock that is kept is told once, with the task that keeps it and with those that wait, and
/// none that is only held, fought for, or was let go.
fn check(build: Build) -> Result<()> {
    let target = start(build, "locks")?;
    let kept = target.head.iter().filter(|line| line["type"] == "kept");
    let truth = kept.map(|line| {
        let number = |key: &str| line[key].as_u64().context("a number");
        let own = line["own"].as_bool().context("whether it waits itself")?;
        Ok((number("task_id")?, (own, number("waiting")?)))
    });
    let truth: Kept = truth.collect::<Result<_>>()?;
    assert_eq!(truth.len(), 4, "{truth:?}");
    let findings = found(&target, truth.len())?;
    let told = findings.iter().map(|found| {
        let Evidence {
            task_id,
            task_ids,
            tasks,
            ..
        } = &found.evidence;
        let id = task_id.context("a task")?;
        Ok((id, (task_ids.contains(&id), tasks.unwrap_or(0))))
    });
    let told: Kept = told.collect::<Result<_>>()?;
    assert_eq!(told, truth, "{build:?}: {findings:#?}");
    assert_eq!(findings.len(), truth.len(), "{build:?}: {findings:#?}");
    for Finding { evidence, .. } in &findings {
        let lasted = Duration::from_nanos(evidence.duration_ns);
        ensure!(!evidence.certain, "{evidence:?}");
        ensure!(
            (Duration::from_secs(2)..Duration::from_mins(1)).contains(&lasted),
            "{evidence:?}"
        );
    }
    Ok(())
}

/// Without symbols, each of these Tokios lays tasks and locks out otherwise.
fn of_versions() -> impl Iterator<Item = Build> {
    let versions = ["1.44.2", "1.28.2"].map(Tokio::Exactly);
    let versions = [Tokio::Newest].into_iter().chain(versions);
    versions.map(|tokio| {
        let build = Build {
            tokio,
            ..Build::DEFAULT
        };
        build.stripped()
    })
}

#[test]
fn locks_that_nobody_takes_are_found_and_no_others() -> Result<()> {
    share_machine!();
    of_versions().try_for_each(check)?;
    check(Build {
        profile: Profile::Fat,
        ..Build::DEFAULT
    })
}

/// What a task keeps: how many futures wait for it, and which tasks poll these.
type KeptInSet = BTreeMap<u64, (u64, BTreeSet<u64>)>;

/// The same where the futures lie in sets that are polled only when woken (`FuturesUnordered`,
/// `join_all`, `buffer_unordered`, `for_each_concurrent`).
fn check_sets(build: Build) -> Result<()> {
    let target = Target::start(&matrix::target(build, "sets")?, &[])?;
    let kept = target.head.iter().filter(|line| line["type"] == "kept");
    let mut names = BTreeMap::new();
    let mut truth = KeptInSet::new();
    for line in kept {
        let id = line["task_id"].as_u64().context("an id")?;
        let waiting = line["waiting"].as_u64().context("a number")?;
        let tasks = line["tasks"].as_array().context("tasks")?;
        let tasks = tasks.iter().filter_map(serde_json::Value::as_u64);
        truth.insert(id, (waiting, tasks.collect()));
        names.insert(id, line["name"].as_str().context("a name")?.to_owned());
    }
    assert_eq!(truth.len(), 5, "{truth:?}");
    let findings = found(&target, truth.len())?;
    let told = findings.iter().map(|Finding { evidence, .. }| {
        let id = evidence.task_id.context("a task")?;
        let tasks = evidence.task_ids.iter().copied().collect();
        Ok((id, (evidence.tasks.unwrap_or(0), tasks)))
    });
    let told: KeptInSet = told.collect::<Result<_>>()?;
    assert_eq!(told, truth, "{build:?}: {findings:#?}");
    assert_eq!(findings.len(), truth.len(), "{build:?}: {findings:#?}");
    for Finding { evidence, .. } in findings.iter().filter(|_| !build.stripped) {
        let (task, id) = (evidence.task.as_deref(), evidence.task_id.unwrap_or(0));
        ensure!(
            task.is_some_and(|task| task.contains(&names[&id])),
            "{names:?}: {evidence:?}"
        );
    }
    Ok(())
}

#[test]
fn locks_that_nobody_takes_are_found_in_sets_of_futures() -> Result<()> {
    share_machine!();
    of_versions().try_for_each(check_sets)?;
    for profile in [Profile::Release, Profile::Fat, Profile::Size] {
        check_sets(Build {
            profile,
            ..Build::DEFAULT
        })?;
    }
    Ok(())
}

/// The root future is no task: who keeps the lock is not said.
#[test]
fn a_root_future_that_keeps_a_lock_is_found_without_its_name() -> Result<()> {
    share_machine!();
    let target = start(Build::DEFAULT.stripped(), "root")?;
    let findings = found(&target, 1)?;
    ensure!(findings.len() == 1, "{findings:#?}");
    let evidence = &findings[0].evidence;
    assert_eq!((evidence.task_id, &evidence.task), (None, &None));
    assert_eq!((evidence.tasks, evidence.task_ids.len()), (Some(1), 1));
    Ok(())
}

/// A future that was handed a lock and waits for a worker takes it soon.
#[test]
fn a_lock_that_is_handed_on_is_none() -> Result<()> {
    share_machine!();
    let target = start(Build::DEFAULT.stripped(), "busy")?;
    let args = ["--stuck", "1s", "--duration", "12s"];
    let report = Session::attach(target.pid(), &args)?.finish()?;
    let locks = report.findings.iter();
    let locks: Vec<_> = locks
        .filter(|found| found.kind == FindingKind::Futurelock)
        .collect();
    ensure!(locks.is_empty(), "{locks:#?}");
    Ok(())
}
