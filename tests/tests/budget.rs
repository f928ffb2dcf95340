//! `--max-overhead`: what is left out when observation costs the process too much, and that it is
//! said.

use std::{fs, io, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use loopprobe::{
    collect::{Observer, Options, Stop},
    model::{Cause, Event, LongPoll, Mode, Sink, Step},
};
use loopprobe_tests::{
    session::{Report, Session},
    take_machine,
    target::Target,
};
use serde_json::Value;

/// The share that probes exceed on such a process, and watching does not. The shortest time without
/// probes is 10 s; at this share it is no longer.
const SHARE: &str = "30%";
const SECOND_NS: u64 = 1_000_000_000;

/// A long poll as the process itself saw it.
#[derive(Clone, Copy, Debug)]
struct Spike {
    start_ns: u64,
    end_ns: u64,
}

impl Spike {
    fn of(line: &Value) -> Result<Self> {
        let at = |key: &str| line[key].as_u64().with_context(|| format!("no {key}"));
        Ok(Self {
            start_ns: at("start_ns")?,
            end_ns: at("end_ns")?,
        })
    }

    /// Whether a poll that was timed is this one.
    fn was(self, poll: &LongPoll) -> bool {
        const AROUND_NS: u64 = 2_000_000;
        let end_ns = poll.start_ns + poll.duration_ns;
        poll.start_ns <= self.start_ns
            && poll.start_ns + AROUND_NS > self.start_ns
            && end_ns + AROUND_NS > self.end_ns
            && end_ns < self.end_ns + 5 * AROUND_NS
    }

    /// Whether a poll that was watched is this one: all of the time in which it was open for
    /// certain lies inside, and no bound is violated.
    fn is(self, poll: &LongPoll) -> bool {
        // The poll is a little longer than what the process measures in it.
        const AROUND_NS: u64 = 2_000_000;
        let duration_ns = self.end_ns - self.start_ns;
        poll.bounds.is_some_and(|bounds| {
            bounds.certain
                && poll.start_ns + AROUND_NS > self.start_ns
                && poll.start_ns < self.end_ns
                && bounds.duration_lo_ns < duration_ns + AROUND_NS
                && bounds
                    .duration_hi_ns
                    .is_none_or(|hi_ns| hi_ns >= duration_ns)
        })
    }
}

/// What the process says up to its first rate after a moment.
fn lines_past(target: &Target, past_ns: u64) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    loop {
        lines.extend(target.until("rate", Duration::from_secs(5))?);
        let last = lines.last().context("a line")?;
        if last["at_ns"].as_u64().context("a time")? > past_ns {
            return Ok(lines);
        }
    }
}

/// How fast the process polled, by its own record, up to a moment.
fn rates(lines: &[Value]) -> Vec<(u64, f64)> {
    let of_rate = lines.iter().filter(|line| line["type"] == "rate");
    let pair = |line: &Value| Some((line["at_ns"].as_u64()?, line["polls_per_second"].as_f64()?));
    of_rate.filter_map(pair).collect()
}

fn best(rates: &[(u64, f64)], from_ns: u64, to_ns: u64) -> f64 {
    let within = rates.iter().filter(|(at, _)| (from_ns..to_ns).contains(at));
    within.map(|(_, rate)| *rate).fold(0.0, f64::max)
}

/// From `paused_ns` to `again_ns` there were no probes: by the process's own record it went on at
/// its full rate, and no figure is of that time.
fn was_let_be(report: &Report, lines: &[Value], paused_ns: u64, again_ns: u64) -> Result<()> {
    let rates = rates(lines);
    let before = best(&rates, report.head.start_ns + SECOND_NS, paused_ns);
    let meanwhile = best(&rates, paused_ns + 3 * SECOND_NS / 2, again_ns);
    println!("{before} polls a second with probes, {meanwhile} without");
    ensure!(meanwhile > 1.5 * before, "{before} {meanwhile}");
    let meanwhile = report
        .intervals
        .iter()
        .filter(|interval| (paused_ns + 1..again_ns).contains(&interval.time_ns));
    ensure!(meanwhile.count() == 0);
    let after = report.intervals.iter().find(|i| i.time_ns > again_ns);
    ensure!(after.context("an interval")?.polls > 0);
    let summary = &report.summary;
    ensure!(summary.workers == Some(2), "{:?}", summary.workers);
    let canary = summary.canary.as_ref().context("a check")?;
    ensure!(canary.failed == 0, "{canary:?}");
    Ok(())
}

/// When the probes went, and when they came back; `step` is what held meanwhile.
fn away(report: &Report, step: Step) -> Result<(u64, u64)> {
    let steps: Vec<(u64, Step)> = report
        .notices
        .iter()
        .filter_map(|notice| Some((notice.time_ns, notice.step?)))
        .collect();
    println!("{steps:?} {:?}", report.summary.budget);
    match steps[..] {
        [(paused_ns, gone), (again_ns, Step::NoStacks), ..] if gone == step => {
            ensure!(again_ns - paused_ns >= 10 * SECOND_NS, "{steps:?}");
            Ok((paused_ns, again_ns))
        }
        _ => anyhow::bail!("{steps:?}"),
    }
}

/// Hundreds of thousands of short polls a second: probes cost most of its time, and leaving out
/// stacks saves nothing. While they are away its long polls are told all the same, between bounds.
#[test]
fn a_process_that_polls_as_fast_as_it_can_is_watched_for_a_while() -> Result<()> {
    take_machine!();
    let target = Target::busy("spikes", 200)?;
    let args = ["--max-overhead", SHARE, "--duration", "16s"];
    let report =
        Session::attach(target.pid(), &[&args[..], &["--interval", "1s"]].concat())?.finish()?;
    let (paused_ns, again_ns) = away(&report, Step::Watched)?;
    let end_ns = report.head.start_ns + report.summary.duration_ns;
    let lines = lines_past(&target, end_ns)?;
    was_let_be(&report, &lines, paused_ns, again_ns)?;
    let budget = report.summary.budget.as_ref().context("a budget")?;
    ensure!(
        budget.watched_ns >= 10 * SECOND_NS && budget.paused_ns == 0 && budget.steps_up >= 1,
        "{budget:?}"
    );
    // It takes a moment to begin and to end.
    let watched = paused_ns + SECOND_NS..again_ns - SECOND_NS;
    let of_spikes = lines.iter().filter(|line| line["type"] == "spike");
    let spikes: Vec<Spike> = of_spikes.map(Spike::of).collect::<Result<_>>()?;
    let told = report.ended();
    let (mut seen, mut missed) = (0, Vec::new());
    for spike in spikes
        .iter()
        .filter(|spike| watched.contains(&spike.start_ns))
    {
        match told.iter().filter(|poll| spike.is(poll)).count() {
            1 => seen += 1,
            _ => missed.push(*spike),
        }
    }
    ensure!(
        seen >= 20 && missed.is_empty(),
        "{seen} seen, not once: {missed:?}"
    );
    // Nobody is sent to stacks that were not taken.
    let is_unknown = |poll: &&&LongPoll| {
        let diagnosis = poll.diagnosis.as_ref();
        diagnosis.is_some_and(|diagnosis| diagnosis.cause == Cause::Unknown)
    };
    let unknown = told.iter().find(is_unknown);
    ensure!(unknown.is_none(), "{unknown:?}");
    // Nothing that was watched is anything else, but for polls that waited for a CPU.
    let is_strange = |poll: &&&LongPoll| {
        let split = poll.split.unwrap_or_default();
        let has_waited = split.runnable_ns * 2 > poll.duration_ns;
        poll.bounds.is_some() && !has_waited && !spikes.iter().any(|spike| spike.is(poll))
    };
    let strange = told.iter().find(is_strange);
    ensure!(strange.is_none(), "{strange:?}");
    Ok(())
}

/// Keeps all events.
#[derive(Default)]
struct Events(Vec<Event>);

impl Sink for Events {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.0.push(event.clone());
        Ok(())
    }
}

#[test]
fn where_nothing_watches_meanwhile_the_process_is_not_looked_at() -> Result<()> {
    take_machine!();
    let target = Target::busy("busy", 200)?;
    let options = Options {
        max_overhead: Some(0.01),
        duration: Some(Duration::from_secs(6)),
        stand_in: false,
        ..Options::new(target.pid())
    };
    let mut sink = Events::default();
    let summary = Observer::attach(&options)?.run(&mut sink, &Stop::new()?)?;
    let told = sink.0.iter().find_map(|event| match event {
        Event::Notice(notice) if notice.step.is_some() => Some(notice),
        _ => None,
    });
    let told = told.context("a notice")?;
    ensure!(told.step == Some(Step::Paused), "{told:?}");
    ensure!(
        told.message.ends_with("nothing is seen meanwhile"),
        "{told:?}"
    );
    let budget = summary.budget.context("a budget")?;
    ensure!(
        budget.paused_ns > SECOND_NS && budget.watched_ns == 0,
        "{budget:?}"
    );
    let away_ns = told.time_ns..told.time_ns + budget.paused_ns;
    let seen = sink.0.iter().find(|event| match event {
        Event::LongPoll(poll) => away_ns.contains(&poll.start_ns),
        _ => false,
    });
    ensure!(seen.is_none(), "{seen:?}");
    Ok(())
}

/// How much CPU time a process has used: `utime` and `stime` of proc_pid_stat(5), in ticks of 10 ms.
fn cpu_ns(pid: u32) -> Result<u64> {
    const TICK_NS: u64 = 10_000_000;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks * TICK_NS)
}

/// What a session of 3 s costs, and what it says that a poll costs.
fn price(pid: u32, mode: Mode) -> Result<(f64, f64)> {
    let options = Options {
        mode,
        duration: Some(Duration::from_secs(3)),
        ..Options::new(pid)
    };
    let observer = Observer::attach(&options)?;
    let before_ns = cpu_ns(pid)?;
    let summary = observer.run(&mut Events::default(), &Stop::new()?)?;
    let cpu_ns = cpu_ns(pid)? - before_ns;
    let cost = summary.cost.context("a cost")?;
    let bare_ns = cost.probes_ns + cost.scheduler_ns;
    Ok((bare_ns as f64 / cpu_ns as f64, cost.ns_per_poll))
}

/// A budget between what entries cost and what both ends do: the probes of returns go, and nothing
/// else changes. Figures go on, and what blocks is told as before, but without stacks.
#[test]
fn where_probes_of_entries_are_within_the_budget_those_of_returns_go() -> Result<()> {
    take_machine!();
    // Some 10 us a poll, on both CPUs.
    let target = Target::busy("spikes", 20_000)?;
    let (share, both_ns) = price(target.pid(), Mode::Exact)?;
    let (_, entry_ns) = price(target.pid(), Mode::Light)?;
    println!("{share} of its CPU time; {both_ns} ns and {entry_ns} ns");
    ensure!(
        entry_ns < 0.9 * both_ns,
        "{entry_ns} ns are not less than {both_ns}"
    );
    let options = Options {
        max_overhead: Some(share * f64::midpoint(1.0, entry_ns / both_ns)),
        duration: Some(Duration::from_secs(10)),
        ..Options::new(target.pid())
    };
    let observer = Observer::attach(&options)?;
    let start_ns = observer.session().start_ns;
    let mut sink = Events::default();
    let summary = observer.run(&mut sink, &Stop::new()?)?;
    let steps: Vec<(u64, Step)> = sink
        .0
        .iter()
        .filter_map(|event| match event {
            Event::Notice(notice) => Some((notice.time_ns, notice.step?)),
            _ => None,
        })
        .collect();
    let budget = summary.budget.as_ref().context("a budget")?;
    println!("{steps:?} {budget:?}");
    let [(stepped_ns, Step::EntryOnly)] = steps[..] else {
        bail!("{steps:?}");
    };
    ensure!(budget.step == Step::EntryOnly && budget.entry_only_ns > 3 * SECOND_NS);
    let end_ns = start_ns + summary.duration_ns;
    let lines = lines_past(&target, end_ns)?;
    // Each block of that time is told once, exactly, and says nothing of a stack.
    let by_entries = stepped_ns + SECOND_NS..end_ns - SECOND_NS;
    let of_spikes = lines.iter().filter(|line| line["type"] == "spike");
    let spikes: Vec<Spike> = of_spikes.map(Spike::of).collect::<Result<_>>()?;
    let mut seen = 0;
    for spike in spikes
        .iter()
        .filter(|spike| by_entries.contains(&spike.start_ns))
    {
        let told: Vec<&LongPoll> = sink
            .0
            .iter()
            .filter_map(|event| match event {
                Event::LongPoll(poll) if poll.ended && spike.was(poll) => Some(poll),
                _ => None,
            })
            .collect();
        ensure!(told.len() == 1, "{spike:?}: {told:?}");
        ensure!(
            told[0].stacks.is_empty() && told[0].bounds.is_none(),
            "{told:?}"
        );
        seen += 1;
    }
    ensure!(seen >= 10, "{seen} seen");
    // What was counted before the change and after it is one figure.
    let polls_at = |at_ns: u64| {
        let mut rates = lines.iter().filter(|line| line["type"] == "rate");
        let line = rates.find(|line| line["at_ns"].as_u64().is_some_and(|ns| ns >= at_ns))?;
        Some((line["at_ns"].as_u64()?, line["polls"].as_u64()?))
    };
    let (from, to) = (polls_at(start_ns), polls_at(end_ns));
    let ((from_ns, from), (to_ns, to)) = (from.context("a rate")?, to.context("a rate")?);
    let rate = (to - from) as f64 / (to_ns - from_ns) as f64;
    let expected = rate * summary.duration_ns as f64;
    let counted = summary.polls.context("polls")? as f64;
    println!("{counted} polls counted, {expected} by the process's own record");
    // Placing probes anew takes some tenths of a second on a busy machine.
    ensure!(
        (0.9..1.07).contains(&(counted / expected)),
        "{counted} {expected}"
    );
    let canary = summary.canary.as_ref().context("a check")?;
    ensure!(canary.checks > 0 && canary.failed == 0, "{canary:?}");
    Ok(())
}

#[test]
fn what_costs_little_is_observed_in_full() -> Result<()> {
    take_machine!();
    let target = Target::busy("block", 50_000)?;
    let args = ["--max-overhead", "10%", "--duration", "4s"];
    let report = Session::attach(target.pid(), &args)?.finish()?;
    let budget = report.summary.budget.context("a budget")?;
    ensure!(
        budget.step == Step::Full && budget.steps_down == 0,
        "{budget:?}"
    );
    ensure!((budget.share - 0.1).abs() < 1e-9);
    ensure!(report.notices.iter().all(|notice| notice.step.is_none()));
    Ok(())
}
