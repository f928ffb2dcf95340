//! Compares what loopprobe said in a guest with what the target says of itself.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{architecture::Architecture, output::Output};

/// The default threshold.
const THRESHOLD_NS: u64 = 10_000_000;
/// Polls that are this close to the threshold may fall on either side of it.
const MARGIN_NS: u64 = 2_000_000;
/// How far a duration may be off in the middle of all. An emulated processor stops for milliseconds
/// whenever the real one does something else, also between a probe and the target's own look at the
/// clock.
const MEDIAN_NS: u64 = 2_000_000;
/// How far at worst.
const WORST_NS: u64 = 100_000_000;
/// With fewer polls nothing is shown.
const FEWEST: usize = 4;

/// The session on a target without symbols.
const STRIPPED: &str = "stripped";
/// The session that is asked for wakes as well.
const LAG: &str = "sleep";
/// The session that places no probe.
const WATCH: &str = "watch";
/// The session that places probes for a while.
const AUTO: &str = "auto";

/// A scenario of the `truth` target and what its long polls are.
struct Scenario {
    name: &'static str,
    kind: &'static str,
    cause: &'static str,
    call: &'static str,
}

const SCENARIOS: [Scenario; 7] = [
    Scenario::new("sleep", "async", "sleep", "truth::steps"),
    Scenario::new("current_thread", "async", "sleep", "truth::steps"),
    Scenario::new("root", "root", "sleep", "truth::steps"),
    Scenario::new("cpu", "async", "cpu", "targets::work::spin_ms"),
    // Entry-only timing of the same work as the first.
    Scenario::new("light", "async", "sleep", "truth::steps"),
    // The same without a probe.
    Scenario::new(WATCH, "async", "sleep", "truth::steps"),
    // Computing again, timed exactly for a while.
    Scenario::new(AUTO, "async", "cpu", "targets::work::spin_ms"),
];

impl Scenario {
    const fn new(
        name: &'static str,
        kind: &'static str,
        cause: &'static str,
        call: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            cause,
            call,
        }
    }
}

/// What was found wrong, a line each.
pub(super) fn failures(architecture: Architecture, output: &Output) -> Vec<String> {
    let mut failures = Vec::new();
    let mut note = |what: &str, result: anyhow::Result<()>| {
        if let Err(error) = result {
            failures.push(format!("{what}: {error:#}"));
        }
    };
    note("doctor", doctor(output));
    let there_are = |name: &&str| architecture.scenarios().contains(name);
    for scenario in SCENARIOS.iter().filter(|one| there_are(&one.name)) {
        note(scenario.name, session(architecture, output, scenario));
        note(scenario.name, harmless(output, scenario.name));
    }
    note(STRIPPED, stripped(output));
    note(STRIPPED, harmless(output, STRIPPED));
    note("stuck", stuck(architecture, output));
    if !architecture.scenarios().contains(&WATCH) {
        for mode in [WATCH, AUTO] {
            note(mode, refused(output, mode));
        }
    }
    failures
}

fn doctor(output: &Output) -> anyhow::Result<()> {
    let exit = output.value("doctor/exits", "doctor");
    ensure!(exit == Some("0"), "{}", output.text("doctor"));
    Ok(())
}

/// Every long poll is reported, nothing else is, and most of them have the right length, cause and
/// stack.
fn session(architecture: Architecture, output: &Output, scenario: &Scenario) -> anyhow::Result<()> {
    let name = scenario.name;
    let events = output.json(&format!("{name}/events"))?;
    let of_type = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind);
    let head = of_type("session").next();
    let head = head.with_context(|| output.text(&format!("{name}/errors")).to_owned())?;
    let summary = of_type("summary").next().context("no summary")?;
    let (start_ns, end_ns) = if name == AUTO {
        look(&events)?
    } else {
        (number(head, "start_ns"), u64::MAX)
    };
    let mut truth = output.json(&format!("{name}/truth"))?;
    truth.retain(|poll| {
        poll["kind"] == scenario.kind
            && number(poll, "start_ns") >= start_ns
            && number(poll, "end_ns") <= end_ns
    });
    let all = of_type("long_poll").map(|poll| number(poll, "start_ns"));
    // Where there is no I/O driver, a thread is known to run a loop from the first poll of a task
    // on.
    let known_ns = all.min().filter(|_| scenario.kind == "root").unwrap_or(0);
    truth.retain(|poll| number(poll, "start_ns") >= known_ns);
    // On a slow machine polls of other kinds can be long too.
    let reported: Vec<&Value> = of_type("long_poll")
        .filter(|poll| poll["ended"] == true && poll["task"]["kind"] == scenario.kind)
        // What was watched beside that is not held against anything here.
        .filter(|poll| name != AUTO || poll["duration_lo_ns"].is_null())
        .collect();
    if name == AUTO {
        let watched: Vec<&Value> = of_type("long_poll").collect();
        truth.retain(|poll| {
            reported.iter().any(|report| is_of(report, poll))
                || !watched.iter().any(|report| was_watched(report, poll))
        });
    }
    as_long(missing(&truth, &reported, spared(name, summary))?)?;
    // A poll that waited for a processor for longer than it did anything else says nothing of the
    // rest.
    let telling: Vec<&Value> = reported
        .iter()
        .copied()
        .filter(|poll| poll["cause"] != "preempted")
        .collect();
    most(&telling, "cause", |poll| poll["cause"] == scenario.cause)?;
    most(&telling, "call", |poll| {
        poll["call"]["function"] == scenario.call
    })?;
    most(&reported, "stack", |poll| {
        frames(architecture, poll).any(|frame| frame == "truth::steps")
    })?;
    counted(architecture, name, head, summary)
}

/// There are enough polls to compare, and their durations are off by so little.
fn as_long(mut errors: Vec<u64>) -> anyhow::Result<()> {
    ensure!(errors.len() >= FEWEST, "only {} long polls", errors.len());
    errors.sort_unstable();
    let (median, worst) = (errors[errors.len() / 2], errors[errors.len() - 1]);
    ensure!(
        median <= MEDIAN_NS && worst <= WORST_NS,
        "durations are off by {median}ns, at worst by {worst}ns"
    );
    Ok(())
}

/// Whether no probe is placed at first.
fn is_watched(name: &str) -> bool {
    matches!(name, WATCH | AUTO)
}

/// From when to when polls were timed exactly.
fn look(events: &[Value]) -> anyhow::Result<(u64, u64)> {
    let time_of = |text: &str| {
        let notices = events.iter().filter(|event| event["type"] == "notice");
        let mut said = notices.filter(|notice| {
            notice["message"]
                .as_str()
                .is_some_and(|said| said.contains(text))
        });
        let notice = said.next().with_context(|| format!("nobody said {text:?}"));
        notice.map(|notice| number(notice, "time_ns"))
    };
    Ok((time_of("probes for 10 s")?, time_of("the probes are gone")?))
}

/// Polls are counted where they are probed, and nothing is lost.
fn counted(
    architecture: Architecture,
    name: &str,
    head: &Value,
    summary: &Value,
) -> anyhow::Result<()> {
    ensure!(
        is_watched(name) || number(summary, "polls") > 0,
        "no polls: {summary}"
    );
    ensure!(
        !is_watched(name) || summary["polls"].is_null() && head["mode"] == name,
        "not watched: {head}, {summary}"
    );
    if name == LAG && architecture.has_wakes() {
        let delays = &summary["wake_to_poll"];
        let (seen, unseen) = (number(delays, "count"), number(delays, "unseen"));
        ensure!(seen > 4 * unseen && seen > 0, "wakes: {delays}");
    }
    for what in [
        "events",
        "stacks",
        "threads",
        "unreadable",
        "unknown_types",
        "wakes",
    ] {
        ensure!(summary["lost"][what] == 0, "lost: {}", summary["lost"]);
    }
    Ok(())
}

/// How many long polls need not be reported: where threads are watched, those that are told as
/// possible, and one for each switch that was not seen.
fn spared(name: &str, summary: &Value) -> u64 {
    if name == WATCH {
        number(summary, "possible_long_polls") + number(&summary["lost"], "switches")
    } else {
        0
    }
}

/// Whether a report is of this poll.
fn is_of(report: &Value, poll: &Value) -> bool {
    let start = number(report, "start_ns");
    report["tid"] == poll["tid"]
        && start < number(poll, "end_ns")
        && start + number(report, "duration_ns") > number(poll, "start_ns")
}

/// Whether a report between bounds, of which there is one at most of each poll, may be of this one.
fn was_watched(report: &Value, poll: &Value) -> bool {
    let Some(longest) = report["duration_hi_ns"].as_u64() else {
        return false;
    };
    let start = number(report, "start_ns");
    let earlier = longest.saturating_sub(number(report, "duration_lo_ns"));
    report["tid"] == poll["tid"]
        && start.saturating_sub(earlier) < number(poll, "end_ns")
        && start + longest > number(poll, "start_ns")
}

/// How far the durations of the long polls are off. Fails for a long poll that was not reported,
/// but for so many as are `spared`.
fn missing(truth: &[Value], reported: &[&Value], mut spared: u64) -> anyhow::Result<Vec<u64>> {
    let mut errors = Vec::new();
    for poll in truth {
        let (start, end) = (number(poll, "start_ns"), number(poll, "end_ns"));
        match reported.iter().find(|report| is_of(report, poll)) {
            Some(report) => errors.push(number(report, "duration_ns").abs_diff(end - start)),
            // The root future's last poll ends with `block_on`; if the thread never waits again,
            // nobody sees that.
            None if poll["kind"] == "root" && poll["ready"] == true => {}
            // A loop that waits for a CPU keeps nobody waiting by its own doing.
            None if poll["kind"] == "root" && own_ns(poll) < THRESHOLD_NS => {}
            None if end - start >= THRESHOLD_NS + MARGIN_NS && spared > 0 => spared -= 1,
            None => ensure!(
                end - start < THRESHOLD_NS + MARGIN_NS,
                "not reported: {poll}"
            ),
        }
    }
    ensure!(
        errors.len() >= reported.len(),
        "{} reports, but only {} polls that they could be of",
        reported.len(),
        errors.len()
    );
    Ok(errors)
}

/// How long a poll computed, and slept as it was asked to.
fn own_ns(poll: &Value) -> u64 {
    number(poll, "cpu_ns") + number(poll, "asked_ns")
}

fn most(polls: &[&Value], what: &str, good: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    let right = polls.iter().filter(|poll| good(poll)).count();
    ensure!(
        right * 2 > polls.len(),
        "the {what} is right for {right} of {} long polls, such as {}",
        polls.len(),
        polls.first().map_or(&Value::Null, |poll| poll)
    );
    Ok(())
}

/// The functions on the first of a poll's stacks that is complete, or, where the vDSO has no call
/// frame information, was searched.
fn frames(architecture: Architecture, poll: &Value) -> impl Iterator<Item = &str> {
    let is_whole = |outcome: &Value| {
        outcome == "complete" || outcome == "searched" && !architecture.describes_vdso()
    };
    let stacks = poll["stacks"].as_array().map_or(&[][..], Vec::as_slice);
    let stack = stacks.iter().find(|stack| is_whole(&stack["outcome"]));
    stack
        .and_then(|stack| stack["frames"].as_array())
        .into_iter()
        .flatten()
        .filter_map(|frame| frame["function"].as_str())
}

/// Both programs ended well; the target's code was changed only while loopprobe was there, and not
/// even then if it placed no probe.
fn harmless(output: &Output, name: &str) -> anyhow::Result<()> {
    let (exits, code) = (format!("{name}/exits"), format!("{name}/code"));
    for program in ["loopprobe", "target"] {
        let exit = output.value(&exits, program);
        ensure!(
            exit == Some("0"),
            "{program} ended with {exit:?}: {}",
            output.text(&format!("{name}/errors"))
        );
    }
    let sum = |when| output.value(&code, when).context(when);
    let file = sum("file")?;
    ensure!(
        sum("before")? == file && sum("after")? == file,
        "the target's code is not as in its file:\n{}",
        output.text(&code)
    );
    ensure!(
        (sum("during")? == file) == is_watched(name),
        "probes were seen where none should be, or none, so this shows nothing:\n{}",
        output.text(&code)
    );
    Ok(())
}

/// Without symbols, tasks that sleep too long are named by where their futures are defined.
fn stripped(output: &Output) -> anyhow::Result<()> {
    let events = output.json("stripped/events")?;
    let polls: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "long_poll" && event["cause"] == "sleep")
        .collect();
    ensure!(
        polls.len() >= FEWEST,
        "only {} long polls: {}",
        polls.len(),
        output.text("stripped/errors")
    );
    let source = include_str!("../../../tests/targets/src/bin/truth.rs");
    let mut lines = source.lines();
    let line = lines.position(|line| line.starts_with("async fn steps("));
    let name = line.map(|line| format!("src/bin/truth.rs:{}", line + 1));
    most(&polls, "name", |poll| {
        let task = &poll["task"];
        task["name_source"] == "location" && task["name"].as_str() == name.as_deref()
    })
}

/// A poll that is stuck already is reported with the call that it is stuck in.
fn stuck(architecture: Architecture, output: &Output) -> anyhow::Result<()> {
    let events = output.json("stuck/events")?;
    let poll = events
        .iter()
        .find(|event| event["since_before_attach"] == true)
        .with_context(|| format!("not seen: {}", output.text("stuck/errors")))?;
    ensure!(poll["cause"] == "sleep", "another cause: {poll}");
    let mut frames = frames(architecture, poll);
    ensure!(
        frames.any(|frame| frame == "std::thread::functions::sleep"),
        "another stack: {poll}"
    );
    Ok(())
}

/// A mode that is not for this processor is refused, with what to use in its place.
fn refused(output: &Output, mode: &str) -> anyhow::Result<()> {
    let said = output.text(&format!("refused-{mode}/errors"));
    let exit = output.value(&format!("refused-{mode}/exits"), "loopprobe");
    let names_another = said.contains("`--mode exact`") && said.contains("`--mode light`");
    ensure!(
        exit == Some("1") && names_another,
        "ended with {exit:?}: {said}"
    );
    Ok(())
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or(0)
}
