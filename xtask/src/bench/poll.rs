//! What a poll costs more with probes on it: the CPU time that a program with nothing but polls
//! needs for each.

use std::{path::PathBuf, process::Command};

use anyhow::Context as _;

use super::{
    build,
    figure::Figure,
    progress,
    running::Running,
    statistics::{Spread, differences, ratios},
};
use crate::privileged;

const BENCH: &str = "poll";
/// The bar, against an empty entry and return probe.
const OVER_PAIR: f64 = 1.3;
/// The same for entry-only timing, against an empty entry probe.
const OVER_ENTRY: f64 = 1.5;
/// The target's lines, one a second, that are read in each state; the one in which the state begins
/// is not.
const SECONDS: usize = 2;

/// What is on the polls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Nothing,
    EmptyEntry,
    EmptyPair,
    Light,
    Timing,
    Lag,
    Stacks,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Nothing,
        Self::EmptyEntry,
        Self::EmptyPair,
        Self::Light,
        Self::Timing,
        Self::Lag,
        Self::Stacks,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::EmptyEntry => "an empty entry probe",
            Self::EmptyPair => "an empty entry and return probe",
            Self::Light => "loopprobe --light --no-stacks",
            Self::Timing => "loopprobe --no-stacks",
            Self::Lag => "loopprobe --no-stacks --lag",
            Self::Stacks => "loopprobe",
        }
    }
}

struct Tools {
    loopprobe: PathBuf,
    empty_probes: PathBuf,
}

/// Each state takes its turn on one running program.
pub(super) fn measure(turns: u32) -> anyhow::Result<Vec<Figure>> {
    let tools = Tools {
        loopprobe: build::loopprobe()?,
        empty_probes: build::tool("empty_probes")?,
    };
    let busy = build::target("busy")?;
    let target =
        Running::start(Command::new(&busy).args(["--millis", "300000", "--rounds", "20"]))?;
    let mut costs = State::ALL.map(|_| Vec::new());
    for turn in 1..=turns {
        progress(&format!("poll: turn {turn} of {turns}"));
        for (state, costs) in State::ALL.into_iter().zip(&mut costs) {
            costs.push(cost_in(state, &tools, &target)?);
        }
    }
    Ok(figures(&costs))
}

fn cost_in(state: State, tools: &Tools, target: &Running) -> anyhow::Result<f64> {
    let pid = target.pid().to_string();
    let mut command = match state {
        State::Nothing => return cost(target),
        State::EmptyEntry | State::EmptyPair => privileged::command(&tools.empty_probes),
        State::Light | State::Timing | State::Lag | State::Stacks => {
            privileged::command(&tools.loopprobe)
        }
    };
    match state {
        State::EmptyEntry => command.args(["entry", &pid]),
        State::EmptyPair => command.args(["pair", &pid]),
        _ => command.args(["attach", "--format", "json", "--pid", &pid]),
    };
    match state {
        State::Light => command.args(["--light", "--no-stacks"]),
        State::Timing => command.arg("--no-stacks"),
        State::Lag => command.args(["--lag", "--no-stacks"]),
        _ => &mut command,
    };
    let probes = Running::start(&mut command)?;
    probes.next("session")?;
    let cost = cost(target)?;
    match state {
        State::Light | State::Timing | State::Lag | State::Stacks => {
            probes.interrupt("loopprobe")?;
        }
        _ => probes.end_input()?,
    }
    Ok(cost)
}

/// CPU time for a poll in nanoseconds, from now on.
fn cost(target: &Running) -> anyhow::Result<f64> {
    target.skip_lines();
    // The state may have begun in the middle of the first.
    target.next("rate")?;
    let mut sum = 0.0;
    for _ in 0..SECONDS {
        let line = target.next("rate")?;
        sum += line["cpu_ns_per_poll"].as_f64().context("a cost")?;
    }
    Ok(sum / SECONDS as f64)
}

fn figures(costs: &[Vec<f64>; State::ALL.len()]) -> Vec<Figure> {
    let of = |state: State| &costs[State::ALL.iter().position(|s| *s == state).unwrap_or(0)];
    let over_nothing = |state| differences(of(state), of(State::Nothing));
    let mut figures: Vec<Figure> = State::ALL
        .into_iter()
        .map(|state| {
            let (what, values) = if state == State::Nothing {
                ("a poll with nothing attached".to_owned(), of(state).clone())
            } else {
                (format!("{} adds", state.name()), over_nothing(state))
            };
            Figure::new(BENCH, what, "ns", Spread::of(&values))
        })
        .collect();
    for (state, other, bar) in [
        (State::Timing, State::EmptyPair, Some(OVER_PAIR)),
        (State::Stacks, State::EmptyPair, None),
        (State::Timing, State::EmptyEntry, None),
        (State::Light, State::EmptyEntry, Some(OVER_ENTRY)),
        (State::Light, State::Timing, None),
        (State::Lag, State::Timing, None),
    ] {
        let what = format!("{} over {}", state.name(), other.name());
        let ratio = Spread::of(&ratios(&over_nothing(state), &over_nothing(other)));
        let figure = Figure::new(BENCH, what, "", ratio);
        figures.push(match bar {
            Some(bar) => figure.at_most(bar),
            None => figure,
        });
    }
    figures
}
