//! loopprobe as an ordinary user, with three capabilities on its file: in every run of the suite,
//! whoever else runs the rest of it. With `LOOPPROBE_UNPRIVILEGED` set, the other test files run
//! that way, too.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loopprobe::model::{Cause, Event, LongPoll};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::causes::{Call, observe};
use loopprobe_tests::folder::Folder;
use loopprobe_tests::lines::Lines;
use loopprobe_tests::matrix::{Build, loopprobe, privileged_loopprobe, target};
use loopprobe_tests::scenario::{self, THRESHOLD_NS, gated};
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;
use loopprobe_tests::truth::Poll;
use loopprobe_tests::unprivileged::{self, CAPABILITIES};

/// Neither root nor the user of loopprobe.
const SOMEBODY: u32 = 65_533;
/// CAP_SYS_PTRACE, CAP_PERFMON and CAP_BPF as bits of a set (`include/uapi/linux/capability.h`).
const THREE: u64 = 1 << 19 | 1 << 38 | 1 << 39;

#[test]
fn long_polls_are_timed() -> Result<()> {
    share_machine!();
    unprivileged::always();
    for build in [Build::DEFAULT, Build::DEFAULT.stripped()] {
        let (truth, report) = scenario::run(build, "sleep", &[])?;
        compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("an ordinary user")?;
        scenario::every_poll_is_counted(&truth, &report)?;
        ensure!(
            report
                .head
                .limits
                .iter()
                .all(|limit| !limit.contains("CAP_"))
        );
    }
    Ok(())
}

#[test]
fn causes_are_named_with_their_function_and_complete_stacks() -> Result<()> {
    share_machine!();
    unprivileged::always();
    let (calls, report) = observe(Build::DEFAULT, "all", 2)?;
    let stacks = || report.polls.iter().flat_map(|poll| &poll.stacks);
    ensure!(
        stacks().count() > 20 && stacks().all(|stack| stack.outcome.is_whole()),
        "a stack is cut short"
    );
    for label in ["sleep", "cpu", "mutex", "network", "child", "page_fault"] {
        let mut calls = calls.iter().filter(|call| call.case.label == label);
        ensure!(calls.any(is_right), "{label} was never recognised");
    }
    // Its path leads through a descriptor of the target.
    let names_a_file = |poll: &LongPoll| {
        let why = poll.diagnosis.as_ref();
        why.is_some_and(|why| why.evidence.contains_key("path"))
    };
    ensure!(report.polls.iter().any(names_a_file), "no file is named");
    Ok(())
}

/// What else the machine does can be the true cause.
fn is_right(call: &Call) -> bool {
    let why = call.report.diagnosis.as_ref();
    why.is_some_and(|why| {
        let named = why.call.as_ref().map(|call| &call.function);
        why.cause == call.case.cause && named.is_some()
    }) || call.was_starved()
}

#[test]
fn a_poll_that_was_stuck_before_the_attach_is_found() -> Result<()> {
    share_machine!();
    unprivileged::always();
    let program = target(Build::DEFAULT, "stuck")?;
    loopprobe()?;
    let target = Target::start(&program, &["block", "--millis", "3000", "--hold"])?;
    let mut session = Session::attach(target.pid(), &[])?;
    let poll = session.next_poll(Duration::from_secs(2))?;
    ensure!(poll.since_before_attach && !poll.ended, "{poll:?}");
    let cause = poll.diagnosis.as_ref().map(|why| why.cause);
    ensure!(cause == Some(Cause::Sleep), "{poll:?}");
    Ok(())
}

#[test]
fn recordings_and_views_hold_what_the_session_said() -> Result<()> {
    share_machine!();
    unprivileged::always();
    let folder = Folder::new("user-views")?;
    let (recording, svg, html) = (
        folder.file("a.lpr"),
        folder.file("a.svg"),
        folder.file("a.html"),
    );
    let mut target = gated(Build::DEFAULT, "truth", &["sleep", "--rounds", "10"])?;
    let session = Session::attach(
        target.pid(),
        &["--record", &recording, "--flamegraph", &svg],
    )?;
    target.work()?;
    let said = session.interrupt()?;
    ensure!(said.status.success(), "{}", said.errors);
    ensure!(fs::read_to_string(&svg)?.contains("[sleep]"));
    let output = Command::new(loopprobe()?)
        .args(["report", &recording, "--format", "json", "--html", &html])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let polls = long_polls(&String::from_utf8(output.stdout)?)?;
    ensure!(!polls.is_empty() && polls == said.polls);
    ensure!(fs::read_to_string(&html)?.contains("truth"));
    Ok(())
}

fn long_polls(json: &str) -> Result<Vec<LongPoll>> {
    let events = json.lines().map(serde_json::from_str);
    let polls = events.filter_map(|event| match event {
        Ok(Event::LongPoll(poll)) => Some(Ok(poll)),
        Ok(_) => None,
        Err(error) => Some(Err(error.into())),
    });
    polls.collect()
}

#[test]
fn run_times_a_program_from_its_first_poll_and_passes_its_end_on() -> Result<()> {
    share_machine!();
    unprivileged::always();
    let folder = Folder::new("user-run")?;
    let report = folder.file("report.json");
    let program = target(Build::DEFAULT, "fork_exec")?;
    let mut child = Command::new(loopprobe()?)
        .args(["run", "--format", "json", "--output", &report, "--"])
        .arg(&program)
        .args(["exit", "--rounds", "10"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = Lines::of(child.stdout.take().context("a pipe")?);
    let said = lines.until("end", Duration::from_mins(1))?;
    let status = child.wait()?;
    ensure!(status.code() == Some(7), "{status}");
    let truth: Vec<Poll> = said
        .iter()
        .filter(|line| line.contains(r#""type":"poll""#))
        .map(|line| serde_json::from_str(line))
        .collect::<Result<_, _>>()?;
    let polls = long_polls(&fs::read_to_string(&report)?)?;
    compare(&truth, &polls, "async", THRESHOLD_NS)?.check("run by an ordinary user")
}

#[test]
fn a_session_has_three_capabilities_and_can_get_no_more() -> Result<()> {
    share_machine!();
    unprivileged::always();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let session = Session::attach(target.pid(), &[])?;
    for thread in fs::read_dir(format!("/proc/{}/task", session.pid()))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim().to_owned())
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let bits = u64::from_str_radix(&field(set).context("a set")?, 16)?;
            ensure!(bits & !THREE == 0, "{set} is {bits:x}: {status}");
        }
        let user = unprivileged::USER.to_string();
        let ids = field("Uid").context("a user")?;
        ensure!(ids.split_whitespace().all(|id| id == user), "{status}");
        ensure!(field("NoNewPrivs").as_deref() == Some("1"), "{status}");
    }
    Ok(())
}

/// Runs a loopprobe with other capabilities on its file.
fn attach_with(capabilities: &str, pid: u32) -> Result<Output> {
    let program = unprivileged::install(&privileged_loopprobe()?, "other", capabilities)?;
    Ok(Command::new(program)
        .args(["attach", "--pid", &pid.to_string(), "--duration", "500ms"])
        .output()?)
}

/// It ends with an error that has all of the words.
fn refused(output: &Output, words: &[&str]) -> Result<()> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}", output.status);
    for word in words {
        ensure!(errors.contains(word), "no `{word}` in: {errors}");
    }
    Ok(())
}

#[test]
fn the_error_names_the_capability_that_is_missing() -> Result<()> {
    share_machine!();
    unprivileged::always();
    let own = gated(Build::DEFAULT, "truth", &["sleep"])?;
    for (has, lacks) in [
        ("", "without CAP_BPF and CAP_PERFMON and CAP_SYS_PTRACE"),
        ("cap_perfmon,cap_sys_ptrace+ep", "without CAP_BPF)"),
        ("cap_bpf,cap_sys_ptrace+ep", "without CAP_PERFMON)"),
    ] {
        refused(&attach_with(has, own.pid())?, &[lacks, "sudo setcap"])?;
    }
    let others = others(&target(Build::DEFAULT, "truth")?)?;
    let without_ptrace = attach_with("cap_bpf,cap_perfmon+ep", others.pid())?;
    refused(&without_ptrace, &["no permission", "CAP_SYS_PTRACE"])
}

/// Another user's process.
fn others(program: &Path) -> Result<Target> {
    let mut command = Command::new(program);
    command.args(["sleep", "--gate", "inside", "--hold"]);
    Target::spawn_as_is(command.uid(SOMEBODY).gid(SOMEBODY))
}

#[test]
fn another_users_process_is_observed_and_what_cannot_be_named_is_said() -> Result<()> {
    share_machine!();
    unprivileged::always();
    let mut target = others(&target(Build::DEFAULT, "truth")?)?;
    let (truth, report) = scenario::observe(&mut target, &[])?;
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("another user's process")?;
    let limits = &report.head.limits;
    ensure!(
        limits
            .iter()
            .any(|limit| limit.contains("CAP_DAC_READ_SEARCH")),
        "{limits:?}"
    );
    Ok(())
}

#[test]
fn a_program_that_only_its_owner_may_read_is_not_called_one_without_tokio() -> Result<()> {
    share_machine!();
    unprivileged::always();
    let folder = Folder::new("owner-only")?;
    let program = folder.path().join("truth");
    fs::copy(target(Build::DEFAULT, "truth")?, &program)?;
    std::os::unix::fs::chown(&program, Some(SOMEBODY), Some(SOMEBODY))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
    let target = others(&program)?;
    refused(
        &attach_with(CAPABILITIES, target.pid())?,
        &["cannot be told", "CAP_DAC_READ_SEARCH"],
    )?;
    let more = format!("cap_dac_read_search,{CAPABILITIES}");
    let output = attach_with(&more, target.pid())?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}
