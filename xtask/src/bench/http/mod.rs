//! A busy web service under load from another process: what each tool that watches it costs its
//! clients.

mod load;
mod tool;

use std::{collections::BTreeMap, path::Path, process::Command, thread, time::Duration};

use anyhow::ensure;

use super::{
    build,
    figure::Figure,
    progress,
    running::{Running, is_installed},
    statistics::{Spread, ratios},
};
use load::Answers;
use tool::{Tool, Tools};

const BENCH: &str = "http";
/// How long a tool gets to begin.
const SETTLE: Duration = Duration::from_millis(500);

/// What clients see with one tool, turn by turn.
#[derive(Default)]
struct Seen {
    requests_a_second: Vec<f64>,
    p99_us: Vec<f64>,
}

pub(super) fn measure(turns: u32) -> anyhow::Result<Vec<Figure>> {
    ensure!(
        is_installed("wrk"),
        "the load comes from wrk, which is not on PATH"
    );
    let tools = Tools::build()?;
    let (plain, console) = (build::service(false)?, build::service(true)?);
    let present: Vec<Tool> = Tool::ALL.into_iter().filter(|t| t.is_installed()).collect();
    let mut seen: BTreeMap<Tool, Seen> = BTreeMap::new();
    for turn in 1..=turns {
        progress(&format!("http: turn {turn} of {turns}"));
        for tool in &present {
            let program = if *tool == Tool::Console {
                &console
            } else {
                &plain
            };
            let answers = watched(*tool, &tools, program)?;
            let seen = seen.entry(*tool).or_default();
            seen.requests_a_second.push(answers.requests_a_second);
            seen.p99_us.push(answers.p99_us);
        }
    }
    Ok(figures(&seen))
}

/// A service of its own for each turn, so that no tool leaves anything to the next.
fn watched(tool: Tool, tools: &Tools, program: &Path) -> anyhow::Result<Answers> {
    let service = Running::start(&mut Command::new(program))?;
    let address = service.line()?;
    load::warm_up(&address)?;
    let watcher = tools.start(tool, program, service.pid())?;
    thread::sleep(SETTLE);
    let answers = load::run(&address)?;
    if let Some((watcher, name)) = watcher {
        watcher.interrupt(name)?;
    }
    Ok(answers)
}

fn figures(seen: &BTreeMap<Tool, Seen>) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (tool, seen) in seen {
        let rate = Spread::of(&seen.requests_a_second);
        figures.push(Figure::new(BENCH, format!("{tool}: requests"), "/s", rate));
        let p99 = Spread::of(&seen.p99_us);
        figures.push(Figure::new(
            BENCH,
            format!("{tool}: p99 latency"),
            "us",
            p99,
        ));
    }
    for ours in [Tool::Watch, Tool::Light, Tool::Timing] {
        for (tool, theirs) in seen.iter().filter(|(tool, _)| tool.is_another()) {
            let what = format!("requests with {tool} over {ours}");
            let ratio = ratios(&theirs.requests_a_second, &seen[&ours].requests_a_second);
            figures.push(Figure::new(BENCH, what, "", Spread::of(&ratio)).at_most(1.0));
        }
    }
    figures
}
