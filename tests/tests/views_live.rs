//! Views and recordings of real sessions.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Event, LongPoll};
use loopprobe_tests::{
    folder::{Folder, SmallDisk},
    matrix::{self, Build},
    session::Session,
    share_machine,
    target::Target,
    truth::Poll,
};

const THRESHOLD_NS: u64 = 10_000_000;
/// Many times what anything here takes on an idle machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program that waits for its `go`, started when all else is built.
fn sleepers(rounds: &str) -> Result<Target> {
    matrix::loopprobe()?;
    let program = matrix::target(Build::DEFAULT, "causes")?;
    let args = [
        "sleep", "--millis", "30", "--rounds", rounds, "--gate", "before", "--hold",
    ];
    Target::start(&program, &args)
}

fn total(polls: &[&LongPoll]) -> u64 {
    polls.iter().map(|poll| poll.duration_ns).sum()
}

/// The blocking parts of the target's polls. Each of its polls has one and does next to nothing
/// else.
fn long(truth: &[Poll]) -> impl Iterator<Item = u64> {
    let parts = truth.iter().filter(|poll| poll.kind == "span");
    parts
        .map(Poll::duration_ns)
        .filter(|ns| *ns >= THRESHOLD_NS)
}

fn report(args: &[&str]) -> Result<String> {
    let output = Command::new(matrix::loopprobe()?)
        .arg("report")
        .args(args)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn events(json: &str) -> Result<Vec<Event>> {
    json.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

fn folded_total(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let ns = |line: &str| {
        line.rsplit_once(' ')
            .and_then(|(_, ns)| ns.parse::<u64>().ok())
    };
    text.lines().map(|line| ns(line).context("no weight")).sum()
}

#[test]
fn a_flamegraph_is_as_wide_as_the_targets_own_long_polls() -> Result<()> {
    share_machine!();
    let folder = Folder::new("width")?;
    let mut target = sleepers("30")?;
    let (svg, folded, recording) = (
        folder.file("a.svg"),
        folder.file("a.folded"),
        folder.file("a.lpr"),
    );
    let args = [
        "--flamegraph",
        &svg,
        "--folded",
        &folded,
        "--record",
        &recording,
    ];
    let session = Session::attach(target.pid(), &args)?;
    let truth = target.work()?;
    let said = session.interrupt()?;
    ensure!(said.status.success(), "{}: {}", said.status, said.errors);

    let own: u64 = long(&truth).sum();
    let ended = said.ended();
    ensure!(
        ended.len() == long(&truth).count() && ended.len() >= 30,
        "{} and {}",
        ended.len(),
        long(&truth).count()
    );
    ensure!(folded_total(&folded)? == total(&ended));
    let text = fs::read_to_string(&svg)?;
    let (_, rest) = text.split_once("total_samples=\"").context("no total")?;
    let width: u64 = rest.split('"').next().context("no total")?.parse()?;
    let off = |a: u64, b: u64| a.abs_diff(b) as f64 / b as f64;
    ensure!(
        off(width, total(&ended)) < 0.001,
        "{width} and {}",
        total(&ended)
    );
    ensure!(off(width, own) < 0.01, "{width} and the target's own {own}");
    ensure!(text.contains("[sleep]"));

    let replayed = events(&report(&[&recording, "--format", "json"])?)?;
    let polls: Vec<_> = replayed
        .iter()
        .filter_map(|event| match event {
            Event::LongPoll(poll) => Some(poll),
            _ => None,
        })
        .collect();
    ensure!(polls.len() == said.polls.len());
    ensure!(polls.into_iter().eq(&said.polls));
    ensure!(replayed.last() == Some(&Event::Summary(said.summary)));
    let again = folder.file("again.folded");
    report(&[&recording, "--folded", &again])?;
    ensure!(fs::read(&again)? == fs::read(&folded)?);
    Ok(())
}

#[test]
fn a_recording_of_a_killed_loopprobe_can_be_reported_and_its_target_lives() -> Result<()> {
    share_machine!();
    let folder = Folder::new("killed")?;
    let mut target = sleepers("400")?;
    target.send("go")?;
    let recording = folder.file("killed.lpr");
    let mut loopprobe = Command::new(matrix::loopprobe()?)
        .args([
            "record",
            "--pid",
            &target.pid().to_string(),
            "-o",
            &recording,
        ])
        .stdout(Stdio::null())
        .spawn()?;
    // The head is 16 bytes; long polls take some hundred each.
    let grown = wait_for(|| fs::metadata(&recording).is_ok_and(|file| file.len() > 2_000));
    loopprobe.kill()?;
    loopprobe.wait()?;
    grown?;
    let events = events(&report(&[&recording, "--format", "json"])?)?;
    let polls = events
        .iter()
        .filter(|event| matches!(event, Event::LongPoll(_)));
    let polls = polls.count() as u64;
    ensure!(polls > 5, "{polls}");
    let Some(Event::Summary(summary)) = events.last() else {
        anyhow::bail!("no summary");
    };
    ensure!(summary.long_polls == polls && summary.reason.contains("cut off"));
    ensure!(
        summary.lost.is_none() && summary.p99_ns.is_none(),
        "{summary:?}"
    );
    ensure!(target.is_alive()?);
    Ok(())
}

#[test]
fn a_disk_that_fills_up_ends_the_session_and_keeps_what_was_recorded() -> Result<()> {
    share_machine!();
    let folder = Folder::new("fills-up")?;
    let disk = SmallDisk::mount("fills-up-disk", 8)?;
    let (recording, svg) = (disk.file("full.lpr"), folder.file("whole.svg"));
    let mut target = sleepers("2000")?;
    target.send("go")?;
    let output = Command::new(matrix::loopprobe()?)
        .args(["record", "--pid", &target.pid().to_string(), "-o"])
        .args([&recording, "--flamegraph", &svg, "--duration", "20s"])
        .output()?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr)?;
    ensure!(said.matches(&recording).count() == 1, "{said}");
    ensure!(said.matches("No space left").count() == 1, "{said}");
    ensure!(fs::read_to_string(&svg)?.contains("[sleep]"));
    let events = events(&report(&[&recording, "--format", "json"])?)?;
    ensure!(events.len() > 5, "{}", events.len());
    ensure!(target.is_alive()?);
    Ok(())
}

#[test]
fn a_recording_does_not_replace_a_file() -> Result<()> {
    share_machine!();
    let folder = Folder::new("replace")?;
    let path = folder.file("precious");
    fs::write(&path, "precious")?;
    let target = sleepers("1")?;
    let output = Command::new(matrix::loopprobe()?)
        .args(["record", "--pid", &target.pid().to_string(), "-o", &path])
        .output()?;
    ensure!(output.status.code() == Some(1));
    let said = String::from_utf8(output.stderr)?;
    ensure!(said.contains("precious exists already"), "{said}");
    ensure!(fs::read_to_string(&path)? == "precious");
    Ok(())
}

#[test]
fn foreign_files_are_refused_by_name() -> Result<()> {
    let output = Command::new(matrix::loopprobe()?)
        .args(["report", "/bin/sh"])
        .output()?;
    ensure!(output.status.code() == Some(1));
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        said.contains("/bin/sh is not a loopprobe recording"),
        "{said}"
    );
    Ok(())
}

fn wait_for(mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        ensure!(Instant::now() < deadline, "nothing came of it");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
