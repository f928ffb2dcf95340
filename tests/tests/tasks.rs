//! `loopprobe tasks` against what the programs themselves know of their tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Finding, FindingKind};
use loopprobe_tests::{
    halve_machine,
    matrix::{self, Build, Profile, Tokio, VERSIONS},
    privileges::place,
    session::Session,
    share_machine,
    target::Target,
};
use serde_json::Value;

/// The states of tasks, by kind and id.
type States = BTreeMap<(String, u64), String>;

fn run(target: &Target, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(matrix::loopprobe()?);
    command.args(["tasks", "--pid", &target.pid().to_string()]);
    Ok(command.args(args).output()?)
}

fn listed(target: &Target) -> Result<Value> {
    let output = run(target, &["--json"])?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).context(errors)
}

fn states<'a>(tasks: impl Iterator<Item = &'a Value>, id: &str) -> States {
    let key = |task: &Value| {
        let kind = task["kind"].as_str().unwrap_or_default().to_owned();
        (kind, task[id].as_u64().unwrap_or(0))
    };
    let state = |task: &Value| task["state"].as_str().unwrap_or_default().to_owned();
    tasks.map(|task| (key(task), state(task))).collect()
}

/// Starts a program that knows its tasks, and lists them.
fn crowd(build: Build) -> Result<(Target, Vec<Value>, Value)> {
    let target = Target::start(&matrix::target(build, "crowd")?, &[])?;
    let truth: Vec<Value> = target
        .head
        .iter()
        .filter(|line| line["type"] == "task")
        .cloned()
        .collect();
    ensure!(truth.len() > 80, "{} tasks", truth.len());
    let found = listed(&target)?;
    Ok((target, truth, found))
}

fn check(build: Build) -> Result<()> {
    let (mut target, truth, found) = crowd(build)?;
    let tasks = found["tasks"].as_array().context("tasks")?;
    assert_eq!(found["partial"], false, "{build:?}: {found}");
    let expected = states(truth.iter(), "task_id");
    let mut listed = states(tasks.iter(), "id");
    // The worker is a closure on the pool to Tokio, and not the program's.
    listed
        .retain(|key, state| key.0 == "async" || expected.contains_key(key) || state != "running");
    assert_eq!(listed, expected, "{build:?}");
    let mut numbered = 0;
    // Each task's type, with symbols, and which loop.
    for task in tasks {
        let Some(truth) = truth.iter().find(|known| known["task_id"] == task["id"]) else {
            continue;
        };
        let of_loop = task["loop"]
            .as_u64()
            .and_then(|of_loop| found["loops"].get(of_loop as usize));
        let scheduler = of_loop.map_or("pool", |of_loop| {
            of_loop["scheduler"].as_str().unwrap_or("")
        });
        assert!(
            scheduler == truth["loop"] || scheduler == "unknown",
            "{build:?}: {task} is of {scheduler}, {truth}"
        );
        // The number of the await is never wrong where it is told.
        let number = &task["await"][0]["number"];
        if truth["await"].is_u64() && number.is_u64() {
            assert_eq!(*number, truth["await"], "{build:?}: {task}");
            numbered += 1;
        }
        let (name, own) = (
            task["name"].as_str().unwrap_or(""),
            truth["name"].as_str().unwrap_or("-"),
        );
        let is_certain = task["certain"] == true;
        if !build.stripped && is_certain && !name.contains(".rs:") {
            assert!(name.ends_with(own), "{build:?}: {task} is {own}");
        }
    }
    println!("{build:?}: {numbered} awaits told");
    ensure!(numbered >= 60, "{build:?}: {numbered} awaits told");
    ensure!(target.is_alive()?, "{build:?}: the target ended");
    target.send("go")?;
    ensure!(target.wait()?.success(), "{build:?}: the target failed");
    Ok(())
}

#[test]
fn each_live_task_is_listed_with_its_state() -> Result<()> {
    let _place = place()?;
    for tokio in VERSIONS {
        let build = Build {
            tokio,
            ..Build::DEFAULT
        };
        check(build)?;
        check(build.stripped())?;
    }
    Ok(())
}

/// Lists as JSON, and says how much memory that took at most, in KiB.
fn listed_with_peak(target: &Target) -> Result<(Value, i64)> {
    let mut command = Command::new(matrix::loopprobe()?);
    command.args(["tasks", "--json", "--pid", &target.pid().to_string()]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut text = Vec::new();
    child
        .stdout
        .take()
        .context("a pipe")?
        .read_to_end(&mut text)?;
    // SAFETY: the struct is plain numbers, and the kernel fills it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the child is this process's own, nobody else waits for it, and the pointers are
    // valid.
    let waited = unsafe { libc::wait4(child.id() as i32, std::ptr::null_mut(), 0, &raw mut usage) };
    ensure!(waited == child.id() as i32, "wait4 gave {waited}");
    Ok((serde_json::from_slice(&text)?, usage.ru_maxrss))
}

#[test]
fn a_hundred_thousand_tasks_take_about_a_second() -> Result<()> {
    let _place = place()?;
    let build = Build::DEFAULT.stripped();
    let target = Target::start(&matrix::target(build, "crowd")?, &["many"])?;
    matrix::loopprobe()?;
    let started = Instant::now();
    let (found, peak_kib) = listed_with_peak(&target)?;
    let took = started.elapsed();
    let tasks = found["tasks"].as_array().context("tasks")?;
    let idle = tasks.iter().filter(|task| task["state"] == "idle").count();
    assert_eq!(idle, 100_000, "{} in all", tasks.len());
    assert_eq!(found["partial"], false);
    println!("100,000 tasks in {took:?}, {} MiB", peak_kib >> 10);
    ensure!(peak_kib < 200 << 10, "{peak_kib} KiB");
    // The bar is a second on an idle machine; the rest is for other work on this one.
    ensure!(took < Duration::from_secs(10), "{took:?}");
    Ok(())
}

#[test]
fn counts_are_right_while_tasks_come_and_go() -> Result<()> {
    let _place = place()?;
    for tokio in [Tokio::Newest, Tokio::Exactly("1.28.2")] {
        let build = Build {
            tokio,
            ..Build::DEFAULT
        };
        let mut target = Target::start(&matrix::target(build, "crowd")?, &["churn"])?;
        for _ in 0..3 {
            target.send("count")?;
            let answer = target.until("alive", Duration::from_mins(1))?;
            let alive = answer
                .last()
                .and_then(|line| line["tasks"].as_u64())
                .context("a count")?;
            let found = listed(&target)?;
            let tasks = found["tasks"].as_array().context("tasks")?;
            let active = tasks.iter().filter(|task| task["kind"] == "async").count() as u64;
            println!(
                "{tokio}: {alive} alive, {active} listed, {} unsure",
                found["unsure"]
            );
            // The program and loopprobe look at different moments; some hundred tasks come and go
            // meanwhile.
            ensure!(active.abs_diff(alive) * 100 <= alive, "{active} of {alive}");
        }
        ensure!(target.is_alive()?, "the target ended");
    }
    Ok(())
}

#[test]
fn debug_information_tells_the_chain_of_awaits() -> Result<()> {
    let _place = place()?;
    for tokio in [Tokio::Newest, Tokio::Exactly("1.28.2")] {
        let build = Build {
            tokio,
            profile: Profile::DebugTypes,
            stripped: false,
        };
        let (_target, truth, found) = crowd(build)?;
        let mut checked = 0;
        for task in found["tasks"].as_array().context("tasks")? {
            let known = truth.iter().find(|known| known["task_id"] == task["id"]);
            let lines = known.and_then(|known| known["lines"].as_array());
            let Some(lines) = lines.filter(|lines| !lines.is_empty()) else {
                continue;
            };
            let chain = task["await"]
                .as_array()
                .with_context(|| format!("no chain: {task}"))?;
            let told: Vec<&Value> = chain.iter().filter_map(|point| point.get("line")).collect();
            assert_eq!(told, lines.iter().collect::<Vec<_>>(), "{build:?}: {task}");
            // Behind the last await is what is no async function.
            ensure!(chain.len() == lines.len() + 1, "{task}");
            let last = chain.last().and_then(|point| point["function"].as_str());
            let is_leaf = |name: &str| name.contains("Pending") || name.contains("Sleep");
            ensure!(last.is_some_and(is_leaf), "{task}");
            checked += 1;
        }
        ensure!(checked >= 43, "{checked} chains");
    }
    Ok(())
}

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

#[test]
fn text_fits_and_options_choose() -> Result<()> {
    let _place = place()?;
    let build = Build {
        profile: Profile::DebugTypes,
        ..Build::DEFAULT
    };
    let (target, ..) = crowd(build)?;
    let shown = |args: &[&str]| -> Result<String> {
        let output = run(&target, args)?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let text = shown(&[])?;
    for line in text.lines() {
        ensure!(line.chars().count() <= 80, "does not fit: {line}");
    }
    ensure!(text.contains("85 live tasks"), "{text}");
    // The biggest group is first, and is cut.
    let first = text
        .lines()
        .find(|line| line.contains("crowd::"))
        .context("a type")?;
    ensure!(
        first.contains("56") && first.ends_with("crowd::waits_for_ever"),
        "{first}"
    );
    ensure!(text.contains("more tasks"), "{text}");
    let text = shown(&["--type", "*sleeps", "--limit", "0", "--sort", "id"])?;
    let ids = text
        .lines()
        .filter(|line| line.trim_end().ends_with("crowd::sleeps"));
    assert_eq!(ids.count(), 21, "{text}");
    ensure!(!text.contains("more task"), "{text}");
    // Again and again, until it is told to end.
    let mut command = Command::new(matrix::loopprobe()?);
    command.args([
        "tasks",
        "--json",
        "--watch",
        "100ms",
        "--pid",
        &target.pid().to_string(),
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let seen: Vec<String> = lines.take(3).collect::<std::io::Result<_>>()?;
    child.kill()?;
    child.wait()?;
    for line in seen {
        let found: Value = serde_json::from_str(&line)?;
        assert_eq!(found["type"], "tasks");
    }
    Ok(())
}
