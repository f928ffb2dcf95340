//! The gate for CI: limits, exit codes, JUnit, marked lines, a baseline, and loopprobe as cargo's
//! runner.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    folder::Folder,
    halve_machine,
    matrix::{loopprobe, test_program},
    session::Session,
    target::Target,
};
use quick_xml::{Reader, events::Event};

fn run(args: &[&str]) -> Result<Output> {
    Ok(Command::new(loopprobe()?)
        .args(args)
        .env_remove("GITHUB_ACTIONS")
        .stdin(Stdio::null())
        .output()?)
}

fn attach(target: &Target, args: &[&str]) -> Result<Output> {
    let pid = target.pid().to_string();
    let fixed = ["attach", "--quiet", "--pid", &pid, "--duration", "1s"];
    run(&[&fixed, args].concat())
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An element that begins: its name and attributes.
type Element = (String, HashMap<String, String>);

fn elements(path: &Path) -> Result<Vec<Element>> {
    let text = fs::read_to_string(path)?;
    let mut reader = Reader::from_str(&text);
    let mut elements = Vec::new();
    loop {
        match reader.read_event()? {
            Event::Start(start) | Event::Empty(start) => {
                let name = String::from_utf8(start.name().as_ref().to_vec())?;
                let mut attributes = HashMap::new();
                for attribute in start.attributes() {
                    let attribute = attribute?;
                    let key = String::from_utf8(attribute.key.as_ref().to_vec())?;
                    let value = String::from_utf8(attribute.value.to_vec())?;
                    attributes.insert(key, value);
                }
                elements.push((name, attributes));
            }
            Event::Eof => return Ok(elements),
            _ => {}
        }
    }
}

fn count(elements: &[Element], name: &str) -> usize {
    elements.iter().filter(|(other, _)| other == name).count()
}

#[test]
fn time_that_others_took_is_not_held_against_the_code() -> Result<()> {
    halve_machine!();
    for (limit, code) in [("--fail-over", 0), ("--fail-over-wall", 3)] {
        let target = Target::busy("storm", 20_000)?;
        let session = Session::attach(target.pid(), &["--duration", "3s", limit, "400ms"])?;
        // A poll is open on each worker, but for moments; by now one that began after the attach.
        thread::sleep(Duration::from_millis(300));
        signal(&target, libc::SIGSTOP);
        thread::sleep(Duration::from_millis(700));
        signal(&target, libc::SIGCONT);
        let report = session.finish()?;
        let longest = report.polls.iter().map(|poll| poll.duration_ns).max();
        ensure!(
            longest > Some(400_000_000),
            "no poll of {} was stopped: {longest:?}",
            report.polls.len()
        );
        ensure!(
            report.status.code() == Some(code),
            "{limit}: {}: {}",
            report.status,
            report.errors
        );
        ensure!(
            (code == 0) != report.errors.contains(limit),
            "{}",
            report.errors
        );
    }
    Ok(())
}

fn signal(target: &Target, signal: i32) {
    // SAFETY: the pid is our own child's, which has not been waited for.
    unsafe { libc::kill(target.pid() as i32, signal) };
}

#[test]
fn junit_has_a_case_for_each_limit_and_each_kind_of_long_poll() -> Result<()> {
    halve_machine!();
    let folder = Folder::new("gate-junit")?;
    let (passed, failed) = (
        folder.path().join("passed.xml"),
        folder.path().join("failed.xml"),
    );
    let target = Target::busy("storm", 60_000)?;
    let args = [
        "--fail-over",
        "1m",
        "--junit",
        &passed.display().to_string(),
    ];
    let output = attach(&target, &args)?;
    ensure!(output.status.code() == Some(0), "{}", errors(&output));
    let all = elements(&passed)?;
    ensure!(
        count(&all, "failure") == 0 && count(&all, "testcase") >= 2,
        "{all:?}"
    );
    let args = [
        "--fail-over",
        "20ms",
        "--junit",
        &failed.display().to_string(),
    ];
    let output = attach(&target, &args)?;
    ensure!(output.status.code() == Some(3), "{}", errors(&output));
    let all = elements(&failed)?;
    let (_, suite) = all
        .iter()
        .find(|(name, _)| name == "testsuite")
        .context("a suite")?;
    ensure!(suite["name"] == "busy", "{suite:?}");
    ensure!(
        suite["tests"] == count(&all, "testcase").to_string(),
        "{all:?}"
    );
    ensure!(
        suite["failures"] == count(&all, "failure").to_string(),
        "{all:?}"
    );
    let names: Vec<_> = all.iter().filter_map(|(_, of)| of.get("name")).collect();
    ensure!(
        names.iter().any(|name| *name == "--fail-over 20ms"),
        "{names:?}"
    );
    let kind = |(name, of): &&Element| name == "testcase" && of.contains_key("file");
    let (_, kind) = all.iter().find(kind).with_context(|| format!("{all:?}"))?;
    ensure!(kind["name"].contains("compute_and_block"), "{kind:?}");
    ensure!(kind["file"].ends_with("src/bin/busy.rs"), "{kind:?}");
    let text = fs::read_to_string(&failed)?;
    ensure!(text.contains(r#"type="fail-over""#), "{text}");
    Ok(())
}

#[test]
fn lines_are_marked_for_github() -> Result<()> {
    halve_machine!();
    let target = Target::busy("storm", 60_000)?;
    let marked = |args: &[&str], on_github: bool| -> Result<Option<String>> {
        let pid = target.pid().to_string();
        let mut command = Command::new(loopprobe()?);
        command.args([
            "attach",
            "--quiet",
            "--pid",
            &pid,
            "--duration",
            "1s",
            "--fail-over",
            "20ms",
        ]);
        command
            .args(args)
            .env_remove("GITHUB_ACTIONS")
            .env_remove("GITHUB_WORKSPACE");
        if on_github {
            command.env("GITHUB_ACTIONS", "true");
        }
        let output = command.output()?;
        ensure!(output.status.code() == Some(3), "{}", errors(&output));
        Ok(errors(&output)
            .lines()
            .find(|line| line.starts_with("::error"))
            .map(str::to_owned))
    };
    for line in [
        marked(&[], true)?,
        marked(&["--annotations", "github"], false)?,
    ] {
        let line = line.context("a marked line")?;
        ensure!(
            line.starts_with("::error file=") && line.contains("busy.rs,line="),
            "{line}"
        );
    }
    ensure!(marked(&[], false)?.is_none(), "nobody reads it");
    ensure!(
        marked(&["--annotations", "never"], true)?.is_none(),
        "it was not wanted"
    );
    Ok(())
}

#[test]
fn what_got_worse_than_the_baseline_ends_with_4() -> Result<()> {
    halve_machine!();
    let folder = Folder::new("gate-baseline")?;
    let record = |target: &Target, name: &str| -> Result<PathBuf> {
        let path = folder.path().join(name);
        let pid = target.pid().to_string();
        let file = path.display().to_string();
        let output = run(&[
            "record",
            "--pid",
            &pid,
            "--duration",
            "1s",
            "--output",
            &file,
        ])?;
        ensure!(output.status.success(), "{}", errors(&output));
        Ok(path)
    };
    let (good, bad) = (Target::busy("pace", 100)?, Target::busy("block", 30_000)?);
    let (before, after) = (record(&good, "good.lpr")?, record(&bad, "bad.lpr")?);
    for (target, baseline, code) in [(&bad, &before, 4), (&good, &after, 0)] {
        let baseline = baseline.display().to_string();
        let output = attach(target, &["--baseline", &baseline])?;
        let said = errors(&output);
        ensure!(
            output.status.code() == Some(code),
            "{}: {said}",
            output.status
        );
        ensure!((code == 4) == said.contains("busy.rs, sleep"), "{said}");
    }
    let none = folder.path().join("none.lpr").display().to_string();
    let output = attach(&good, &["--baseline", &none])?;
    ensure!(
        output.status.code() == Some(1) && errors(&output).contains(&none),
        "{}",
        errors(&output)
    );
    Ok(())
}

#[test]
fn a_program_without_an_event_loop_passes_with_its_own_output_and_exit_code() -> Result<()> {
    halve_machine!();
    let folder = Folder::new("gate-without")?;
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh\necho from a script\n")?;
    Command::new("chmod").arg("755").arg(&script).status()?;
    let script = script.display().to_string();
    for (command, stdout, code) in [
        (&["sh", "-c", "echo a; exit 7"][..], "a\n", 7),
        (&["true"], "", 0),
        (&[&script], "from a script\n", 0),
        (&["sh", "-c", "kill -TERM $$"], "", 128 + 15),
    ] {
        let output = run(&[&["run", "--fail-over", "1ms", "--"], command].concat())?;
        ensure!(
            output.stdout == stdout.as_bytes(),
            "{command:?}: {output:?}"
        );
        ensure!(
            output.status.code() == Some(code),
            "{command:?}: {output:?}"
        );
    }
    Ok(())
}

/// What cargo and nextest do with a runner, without either.
#[test]
fn each_test_has_its_verdict() -> Result<()> {
    halve_machine!();
    let folder = Folder::new("gate-runner")?;
    let program = test_program("suite")?.display().to_string();
    for listing in [
        &["--list", "--format", "terse"][..],
        &["--list", "--format", "terse", "--ignored"],
    ] {
        let bare = Command::new(&program).args(listing).output()?;
        let output = run(&[&["run", "--fail-over", "100ms", "--", &program], listing].concat())?;
        ensure!(
            output.stdout == bare.stdout && output.status.success(),
            "{output:?}"
        );
        ensure!(!bare.stdout.is_empty(), "{bare:?}");
    }
    let pattern = folder.path().join("%p.xml").display().to_string();
    for (test, code) in [
        ("a_task_blocks", 3),
        ("a_task_waits", 0),
        ("no_event_loop", 0),
        ("it_fails", 101),
    ] {
        let gate = ["run", "--fail-over", "100ms", "--junit", &pattern, "--"];
        let test_args = [
            &program,
            "--exact",
            test,
            "--nocapture",
            "--include-ignored",
        ];
        let output = run(&[&gate[..], &test_args].concat())?;
        ensure!(output.status.code() == Some(code), "{test}: {output:?}");
        let stdout = String::from_utf8_lossy(&output.stdout);
        ensure!(
            stdout.contains("running 1 test") && !stdout.contains("loopprobe"),
            "{stdout}"
        );
    }
    let mut suites = Vec::new();
    for file in fs::read_dir(folder.path())? {
        let all = elements(&file?.path())?;
        suites.extend(all.into_iter().filter(|(name, _)| name == "testsuite"));
    }
    ensure!(suites.len() == 4, "{suites:?}");
    ensure!(
        suites
            .iter()
            .any(|(_, of)| of["name"].contains("--exact a_task_blocks")),
        "{suites:?}"
    );
    Ok(())
}
