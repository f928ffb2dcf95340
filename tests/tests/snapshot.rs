//! `loopprobe snapshot` of a program that hangs, in each form, against what `/proc` and the program
//! itself say.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    folder::Folder,
    matrix::{self, Build},
    session::Session,
    share_machine,
    target::Target,
};
use serde_json::Value;

fn snapshot(target: &Target, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(matrix::loopprobe()?);
    command.args(["snapshot", "--pid", &target.pid().to_string()]);
    let output = command.args(args).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// Both workers block for as long as the test takes, and the process holds a lock on a file.
fn hung(lock: &std::path::Path) -> Result<Target> {
    let program = matrix::target(Build::DEFAULT, "stuck")?;
    let mut command = Command::new("flock");
    command.arg("--no-fork").arg(lock).arg(program);
    command.args(["all_block", "--millis", "60000", "--hold"]);
    Target::spawn(&mut command)
}

#[test]
fn a_hang_is_told_whole_in_every_form() -> Result<()> {
    share_machine!();
    let folder = Folder::new("snapshot")?;
    let lock = folder.path().join("locked");
    let mut target = hung(&lock)?;
    let json: Value = serde_json::from_slice(&snapshot(&target, &["--format", "json"])?.stdout)?;
    let threads = json["summary"]["threads"].as_array().context("threads")?;
    let told: BTreeSet<u64> = threads.iter().filter_map(|t| t["tid"].as_u64()).collect();
    ensure!(told == of_proc(&target)?, "{told:?}");
    let polling = threads.iter().filter(|t| t["doing"] == "in_poll");
    let polling: Vec<&Value> = polling.collect();
    ensure!(polling.len() == 2, "{threads:#?}");
    for thread in polling {
        ensure!(thread["syscall"] == "clock_nanosleep", "{thread:#}");
        let frames = thread["frames"].as_array().context("a stack")?;
        let sleeps = |f: &Value| f["function"].as_str().is_some_and(|f| f.contains("sleep"));
        ensure!(frames.iter().any(sleeps), "{thread:#}");
    }
    let running = json["tasks"]["tasks"].as_array().context("tasks")?;
    let is_polled = |task: &&Value| task["state"] == "running" && task["kind"] == "async";
    ensure!(
        running.iter().filter(is_polled).count() == 2,
        "{running:#?}"
    );
    ensure!(json["summary"]["long_polls"] == 2, "{}", json["summary"]);
    let locks = json["system"]["locks"].as_array().context("locks")?;
    let is_ours = |held: &&Value| held["path"].as_str() == lock.to_str();
    ensure!(locks.iter().filter(is_ours).count() == 1, "{locks:#?}");

    let text = String::from_utf8(snapshot(&target, &["--duration", "1s"])?.stdout)?;
    for wanted in [
        "Threads at the end",
        "was in the poll of a task: clock_nanosleep",
        "live task",
    ] {
        ensure!(text.contains(wanted), "{wanted} is missing:\n{text}");
    }
    ensure!(!text.contains('\u{1b}'), "{text}");

    let page = folder.path().join("hang.html");
    let path = page.to_str().context("a path")?;
    snapshot(
        &target,
        &["--duration", "1s", "--format", "html", "-o", path],
    )?;
    let page = fs::read_to_string(&page)?;
    let rest = page
        .find("Threads, tasks and the machine")
        .context("the rest")?;
    ensure!(page.trim_end().ends_with("</html>") && page[rest..].contains("clock_nanosleep"));
    ensure!(target.is_alive()?);
    Ok(())
}

/// The only snapshot in a folder.
fn only_file(folder: &Folder) -> Result<String> {
    let entries = fs::read_dir(folder.path())?.collect::<Result<Vec<_>, _>>()?;
    ensure!(entries.len() == 1, "{entries:?}");
    Ok(fs::read_to_string(entries[0].path())?)
}

/// Both workers hang, since before the attach or from then on: one snapshot is taken while the
/// session runs, and named by it.
#[test]
fn a_session_takes_one_snapshot_of_a_hang() -> Result<()> {
    share_machine!();
    for gate in ["none", "before"] {
        let folder = Folder::new("snapshot-on")?;
        let program = matrix::target(Build::DEFAULT, "stuck")?;
        let mut args = vec!["all_block", "--millis", "60000"];
        if gate == "before" {
            args.extend(["--gate", gate]);
        } else {
            args.push("--hold");
        }
        let mut target = Target::start(&program, &args)?;
        let path = folder.path().to_str().context("a path")?;
        let options = ["--snapshot-on", "300ms", "--snapshot-to", path];
        let session = Session::attach(target.pid(), &[&options[..], &["-d", "6s"]].concat())?;
        if gate == "before" {
            target.send("go")?;
        }
        let report = session.finish()?;
        let text = only_file(&folder)?;
        let name = format!("loopprobe-{}-", target.pid());
        ensure!(
            report.remarks(&format!("a snapshot is written to {path}/{name}")),
            "{:?}",
            report.notices
        );
        let polls = |line: &&str| {
            line.starts_with("  tokio-rt-worker/")
                && line.contains(" was in the poll of a task: clock_nanosleep")
        };
        ensure!(text.lines().filter(polls).count() == 2, "{text}");
        ensure!(!text.contains("no task was polled"), "{text}");
        for wanted in ["taken because ", "live task", "\n== Threads\n"] {
            ensure!(text.contains(wanted), "{wanted} is missing:\n{text}");
        }
        for tid in of_proc(&target)? {
            ensure!(text.contains(&format!("/{tid} ")), "{tid}:\n{text}");
        }
        ensure!(target.is_alive()?);
    }
    Ok(())
}

fn of_proc(target: &Target) -> Result<BTreeSet<u64>> {
    fs::read_dir(format!("/proc/{}/task", target.pid()))?
        .map(|entry| Ok(entry?.file_name().to_str().context("a name")?.parse()?))
        .collect()
}
