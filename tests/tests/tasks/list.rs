//! The list: every live task with its state, and what it costs to make.

use std::{
    collections::BTreeMap,
    io::Read as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    matrix::{self, Build, Tokio, VERSIONS},
    privileges::place,
    target::Target,
};
use serde_json::Value;

use crate::{crowd, listed};

/// The states of tasks, by kind and id.
type States = BTreeMap<(String, u64), String>;

fn states<'a>(tasks: impl Iterator<Item = &'a Value>, id: &str) -> States {
    let key = |task: &Value| {
        let kind = task["kind"].as_str().unwrap_or_default().to_owned();
        (kind, task[id].as_u64().unwrap_or(0))
    };
    let state = |task: &Value| task["state"].as_str().unwrap_or_default().to_owned();
    tasks.map(|task| (key(task), state(task))).collect()
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
