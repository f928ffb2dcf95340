//! Each cause of a long poll is recognised, with the right function, in every kind of release
//! build.
//!
//! The target runs one task for each cause, and says itself which task and which functions belong
//! to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{
    elf::{FileOffset, Image},
    model::{Cause, Diagnosis, Frame, LongPoll, Outcome, Stack},
};
use loopprobe_tests::{
    accuracy::TOLERANCE_NS,
    causes,
    matrix::{self, Build, Profile},
    session::Session,
    take_machine,
    target::Target,
    truth::Poll,
};
use serde::Deserialize;

const ROUNDS: u32 = 4;

/// What the target says of one cause.
#[derive(Debug, Deserialize)]
struct Case {
    cause: Cause,
    label: String,
    child: String,
    task: String,
    function: String,
    file: String,
    child_line: u32,
    task_line: u32,
}

#[test]
fn release_builds_name_cause_and_function() -> Result<()> {
    check(Build::DEFAULT)
}

#[test]
fn v0_symbols_name_cause_and_function() -> Result<()> {
    check(of(Profile::V0))
}

#[test]
fn fat_lto_names_cause_and_function() -> Result<()> {
    check(of(Profile::Fat))
}

#[test]
fn panic_abort_names_cause_and_function() -> Result<()> {
    check(of(Profile::Abort))
}

#[test]
fn debug_information_names_the_awaited_child_too() -> Result<()> {
    check(of(Profile::DebugInfo))
}

#[test]
fn stripped_builds_name_cause_and_place() -> Result<()> {
    check(Build::DEFAULT.stripped())?;
    check(of(Profile::Fat).stripped())
}

fn of(profile: Profile) -> Build {
    Build {
        profile,
        ..Build::DEFAULT
    }
}

fn check(build: Build) -> Result<()> {
    take_machine!();
    let mut command = causes::command(build, "all", ROUNDS)?;
    let symbols = Symbols::of(&matrix::target(
        Build {
            stripped: false,
            ..build
        },
        "causes",
    )?)?;
    let mut target = Target::spawn(&mut command)?;
    let cases = cases(&target)?;
    let session = Session::attach(target.pid(), &[])?;
    let truth = target.work()?;
    drop(target);
    let report = session.finish()?;
    let mut recognised: BTreeMap<&str, usize> = BTreeMap::new();
    let mut disturbed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong: BTreeMap<&str, Vec<anyhow::Error>> = BTreeMap::new();
    let mut stacks = Vec::new();
    for poll in report.ended() {
        let Some(case) = case_of(poll, &truth, &cases) else {
            continue;
        };
        stacks.extend(&poll.stacks);
        if is_disturbed(poll, case) {
            *disturbed.entry(&case.label).or_default() += 1;
            continue;
        }
        match judge(build, poll, case, &symbols).with_context(|| format!("{poll:#?}")) {
            Ok(()) => *recognised.entry(&case.label).or_default() += 1,
            Err(error) => wrong.entry(&case.label).or_default().push(error),
        }
    }
    println!("{build:?}: {recognised:?}, wrong: {wrong:?}, on a busy CPU: {disturbed:?}");
    // What else the machine does can make one poll something else than it was made for, but not
    // most of them.
    for (label, errors) in wrong {
        if errors.len() >= recognised.get(label).copied().unwrap_or_default() {
            return Err(errors.into_iter().next().context("an error was counted")?);
        }
    }
    for case in &cases {
        let label = case.label.as_str();
        ensure!(
            recognised.contains_key(label) || disturbed.contains_key(label),
            "{} was never recognised",
            case.label
        );
    }
    complete(&stacks)
}

fn cases(target: &Target) -> Result<Vec<Case>> {
    target
        .head
        .iter()
        .filter(|line| line["type"] == "case")
        .map(|line| Ok(serde_json::from_value(line.clone())?))
        .collect()
}

/// The case whose timed part lies in a poll.
fn case_of<'a>(poll: &LongPoll, truth: &[Poll], cases: &'a [Case]) -> Option<&'a Case> {
    let span = truth.iter().find(|span| {
        span.kind == "span"
            && span.tid == poll.tid
            && poll.start_ns <= span.start_ns + TOLERANCE_NS
            && span.end_ns <= poll.start_ns + poll.duration_ns + TOLERANCE_NS
    })?;
    cases.iter().find(|case| case.label == span.label)
}

/// Whether other programs had the CPU so long that this is the true cause of a poll that was made
/// for another one.
///
/// What fsync is to write is written first, which costs time on the CPU: on a fast disk more than
/// the wait.
fn is_disturbed(poll: &LongPoll, case: &Case) -> bool {
    case.cause != Cause::Preempted
        && poll.split.is_some_and(|split| {
            split.runnable_ns * 3 > poll.duration_ns
                || case.cause == Cause::Fsync && split.blocked_ns * 2 < poll.duration_ns
        })
}

fn judge(build: Build, poll: &LongPoll, case: &Case, symbols: &Symbols) -> Result<()> {
    let found = poll.diagnosis.as_ref().context("no diagnosis")?;
    ensure!(
        found.cause == case.cause,
        "{:?} is not {:?}",
        found.cause,
        case.cause
    );
    ensure!(!found.advice.is_empty(), "no advice");
    proven(found, case)?;
    let call = found.call.as_ref().context("no blocking call")?;
    let own = own_frames(poll);
    if build.stripped {
        let offset = call.function.rsplit_once("+0x").context("no place")?.1;
        let offset = FileOffset(u64::from_str_radix(offset, 16)?);
        let name = symbols.at(offset).context("no function there")?;
        // Inlining may have put the function into the one that awaits it; the task's poll has them
        // all at the latest. A channel's code is made for its type, so it lies among the program's
        // own, and nothing in a stripped file tells it from that.
        ensure!(
            name.contains(&case.label)
                || name.contains("spin_ms")
                || name.contains("raw4poll")
                || case.cause == Cause::Channel && name.contains("4mpmc"),
            "{call:?} is {name}, not of {}",
            case.label
        );
        for definition in own.iter().filter_map(|frame| frame.definition.as_ref()) {
            let lines = [case.child_line, case.task_line];
            ensure!(
                definition.file.ends_with(&case.file) && lines.contains(&definition.line),
                "{definition} is no definition of {}",
                case.label
            );
        }
        return Ok(());
    }
    // Below the marked function there is nothing but the targets' own helpers and what it inlines
    // of its module.
    let names = || own.iter().filter_map(|frame| frame.function.as_deref());
    let module = case.function.rsplit_once("::").context("a path")?.0;
    ensure!(
        names().any(|name| name == case.function),
        "{:?} has no {}",
        names().collect::<Vec<_>>(),
        case.function
    );
    ensure!(
        call.function.starts_with("targets::") || call.function.starts_with(module),
        "{call:?}"
    );
    let whole = poll
        .stacks
        .iter()
        .all(|stack| stack.outcome == Outcome::Complete);
    if build.profile == Profile::DebugInfo && whole {
        let innermost = found.innermost.as_ref().context("no async function")?;
        ensure!(
            innermost.function == case.child,
            "{innermost:?} is not {}",
            case.child
        );
    } else if let Some(innermost) = &found.innermost {
        ensure!(
            [&case.child, &case.task].contains(&&innermost.function),
            "{innermost:?} is neither {} nor {}",
            case.child,
            case.task
        );
    }
    Ok(())
}

/// What else the target knows of a case: who had its lock or its CPU, where its pipe leads.
fn proven(found: &Diagnosis, case: &Case) -> Result<()> {
    let evidence = |name: &str| found.evidence.get(name).map_or("", String::as_str);
    let label = case.label.as_str();
    let right = match case.cause {
        Cause::Lock if label == "file_lock" => {
            evidence("holder").starts_with("file_lock-proc (") && evidence("path").contains("-lock")
        }
        Cause::Lock => evidence("holder").starts_with(&format!("{label}-holder (")),
        Cause::Channel if label == "client" => {
            let waker = evidence("waker");
            waker.starts_with("client-loop (") && waker.contains("meanwhile in its own event loop")
        }
        Cause::Channel => !evidence("waker").is_empty(),
        Cause::ThreadWait if label == "worker" => {
            let waker = evidence("waker");
            waker.starts_with("worker-helper (") && waker.contains("which computed for")
        }
        Cause::ThreadWait if label == "join" => !evidence("waker").is_empty(),
        Cause::Pipe if label == "named_pipe" => evidence("path").contains("-pipe"),
        Cause::Unknown if label == "event" => found.advice.contains("AsyncFd"),
        Cause::Cpu if label == "entropy" => found.advice.contains("the kernel works here"),
        Cause::Preempted => evidence("preempted_by").contains("of this process"),
        // The number of that one stands for a socket by then.
        Cause::Pipe if label == "reused" => {
            evidence("object") == "pipe" && evidence("protocol").is_empty()
        }
        Cause::Pipe => evidence("peer_process") == "this process itself",
        Cause::ThreadWait if label == "helped" => {
            let waker = evidence("waker");
            waker.starts_with("helper (") && waker.contains("which computed for")
        }
        Cause::Stopped => evidence("signal") == "SIGSTOP",
        _ => true,
    };
    ensure!(right, "{label} is not proven by {:?}", found.evidence);
    Ok(())
}

/// The frames of the longest stack that has any of the target's own, without plumbing.
fn own_frames(poll: &LongPoll) -> Vec<&Frame> {
    poll.stacks
        .iter()
        .map(|stack| stack.frames.iter().filter(|frame| !frame.runtime).collect())
        .find(|frames: &Vec<_>| !frames.is_empty())
        .unwrap_or_default()
}

fn complete(stacks: &[&Stack]) -> Result<()> {
    let outcomes: BTreeSet<Outcome> = stacks.iter().map(|stack| stack.outcome).collect();
    let complete = stacks
        .iter()
        .filter(|stack| stack.outcome.is_whole())
        .count();
    ensure!(
        complete * 100 >= stacks.len() * 99,
        "{complete} of {} stacks are complete: {outcomes:?}",
        stacks.len()
    );
    Ok(())
}

/// The symbols of a program, as `nm` reads them.
struct Symbols {
    image: Image,
    by_address: BTreeMap<u64, String>,
}

impl Symbols {
    fn of(program: &Path) -> Result<Self> {
        let output = Command::new("nm")
            .arg("--defined-only")
            .arg(program)
            .output()?;
        ensure!(output.status.success(), "nm: {}", output.status);
        let by_address = String::from_utf8(output.stdout)?
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ');
                let address = u64::from_str_radix(fields.next()?, 16).ok()?;
                let is_code = matches!(fields.next()?, "t" | "T");
                is_code.then(|| Some((address, fields.next()?.to_owned())))?
            })
            .collect();
        Ok(Self {
            image: Image::open(program)?,
            by_address,
        })
    }

    fn at(&self, offset: FileOffset) -> Option<&str> {
        let address = self.image.address(offset)?;
        let (_, name) = self.by_address.range(..=address.0).next_back()?;
        Some(name)
    }
}
