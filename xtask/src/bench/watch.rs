//! Watching without probes: what it takes of a busy program's throughput.

use std::{path::PathBuf, process::Command};

use anyhow::Context as _;

use super::{
    build,
    figure::Figure,
    own, progress,
    running::Running,
    statistics::{Spread, ratios},
};
use crate::privileged;

const BENCH: &str = "watch";
/// Steps of arithmetic in each poll, for about 100 thousand, 1 million and several million polls a
/// second on two CPUs.
const ROUNDS: [u32; 3] = [38_000, 3_600, 20];
/// The bar for loopprobe's own CPU time, in percent of one CPU.
const CPU_PERCENT: f64 = 1.0;
/// The target's lines, one a second, that are read in each state; the one in which the state begins
/// is not.
const SECONDS: usize = 2;

/// What is on the target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Nothing,
    /// Watched, with so many samples a second on each CPU.
    Watch(u32),
    Exact,
}

impl State {
    const ALL: [Self; 4] = [
        Self::Nothing,
        Self::Watch(100),
        Self::Watch(1_000),
        Self::Exact,
    ];

    fn name(self) -> String {
        match self {
            Self::Nothing => "nothing".into(),
            Self::Watch(hz) => format!("--mode watch, {hz} Hz"),
            Self::Exact => "both probes, 499 Hz".into(),
        }
    }

    /// The least part of the throughput that must be left.
    fn bar(self) -> Option<f64> {
        match self {
            Self::Watch(100) => Some(0.99),
            Self::Watch(_) => Some(0.96),
            _ => None,
        }
    }

    fn args(self) -> Vec<String> {
        match self {
            Self::Watch(hz) => ["--mode", "watch", "--sample-hz", &hz.to_string()]
                .map(str::to_owned)
                .to_vec(),
            _ => Vec::new(),
        }
    }
}

/// Of one state, turn by turn.
#[derive(Default)]
struct Seen {
    polls_a_second: Vec<f64>,
    /// loopprobe's own CPU time, in percent of one CPU.
    own: Vec<f64>,
}

/// Each state takes its turn on one running program, once a rate of polls.
pub(super) fn measure(turns: u32) -> anyhow::Result<Vec<Figure>> {
    let loopprobe = build::loopprobe()?;
    let busy = build::target("busy")?;
    let mut figures = Vec::new();
    for rounds in ROUNDS {
        let rounds_text = rounds.to_string();
        let args = ["--millis", "600000", "--rounds", &rounds_text];
        let target = Running::start(Command::new(&busy).args(args))?;
        let mut seen = State::ALL.map(|_| Seen::default());
        for turn in 1..=turns {
            progress(&format!(
                "watch: {rounds} steps a poll, turn {turn} of {turns}"
            ));
            for (state, seen) in State::ALL.into_iter().zip(&mut seen) {
                see(state, &loopprobe, &target, seen)?;
            }
        }
        figures.extend(rows(&seen));
    }
    Ok(figures)
}

fn see(state: State, loopprobe: &PathBuf, target: &Running, seen: &mut Seen) -> anyhow::Result<()> {
    if state == State::Nothing {
        seen.polls_a_second.push(rate(target)?);
        return Ok(());
    }
    let session = start(loopprobe, target.pid(), &state.args())?;
    let pid = session.pid_of("loopprobe")?;
    target.skip_lines();
    target.next("rate")?;
    let before_ns = own::cpu_ns(pid)?;
    seen.polls_a_second.push(rate_of_lines(target)?);
    // A thread that ends takes its time with it.
    let own_ns = own::cpu_ns(pid)?.saturating_sub(before_ns);
    seen.own
        .push(own_ns as f64 / (SECONDS as f64 * 1e9) * 100.0);
    session.interrupt("loopprobe")
}

/// A session that has begun.
pub(super) fn start(loopprobe: &PathBuf, pid: u32, args: &[String]) -> anyhow::Result<Running> {
    let mut command = privileged::command(loopprobe);
    command.args(["attach", "--format", "json", "--pid", &pid.to_string()]);
    let session = Running::start(command.args(args))?;
    session.next("session")?;
    Ok(session)
}

/// Polls a second, from now on.
fn rate(target: &Running) -> anyhow::Result<f64> {
    target.skip_lines();
    // The state may have begun in the middle of the first.
    target.next("rate")?;
    rate_of_lines(target)
}

fn rate_of_lines(target: &Running) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for _ in 0..SECONDS {
        let line = target.next("rate")?;
        sum += line["polls_per_second"].as_f64().context("a rate")?;
    }
    Ok(sum / SECONDS as f64)
}

fn rows(seen: &[Seen; State::ALL.len()]) -> Vec<Figure> {
    let free = &seen[0].polls_a_second;
    let spread = Spread::of(free);
    let about = about(spread.median);
    let what = |state: State, of: &str| format!("{about} polls/s, {}: {of}", state.name());
    let mut figures = vec![Figure::new(
        BENCH,
        what(State::Nothing, "polls"),
        "/s",
        spread,
    )];
    for (state, seen) in State::ALL.into_iter().zip(seen).skip(1) {
        let ratio = Spread::of(&ratios(&seen.polls_a_second, free));
        let left = Figure::new(BENCH, what(state, "throughput left"), "", ratio);
        figures.push(match state.bar() {
            Some(bar) => left.at_least(bar),
            None => left,
        });
        let own = Figure::new(
            BENCH,
            what(state, "own CPU"),
            "% of a CPU",
            Spread::of(&seen.own),
        );
        figures.push(match state {
            State::Watch(_) => own.at_most(CPU_PERCENT),
            _ => own,
        });
    }
    figures
}

/// A rate in few words.
fn about(rate: f64) -> String {
    if rate >= 1e6 {
        format!("{:.1} million", rate / 1e6)
    } else {
        format!("{:.0} thousand", rate / 1e3)
    }
}
