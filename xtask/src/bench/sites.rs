//! Attaching to, and detaching from, a program with more than a thousand task types.

use std::process::Command;

use anyhow::{Context as _, ensure};

use super::{build, figure::Figure, progress, running::Running, statistics::Spread};
use crate::privileged;

const BENCH: &str = "sites";
/// The bar for each, in milliseconds.
const BAR_MS: f64 = 500.0;
/// How many probes there must be for the bar to mean anything: an entry and a return for each of a
/// thousand sites.
const PROBES: u64 = 2_000;

pub(super) fn measure(turns: u32) -> anyhow::Result<Vec<Figure>> {
    let many = build::target("many")?;
    let attach_time = build::tool("attach_time")?;
    progress("sites: attaching and detaching");
    let target = Running::start(Command::new(&many).args(["--hold", "--millis", "120000"]))?;
    target.next("ready")?;
    let mut command = privileged::command(&attach_time);
    let tool = Running::start(command.args([turns.to_string(), target.pid().to_string()]))?;
    let (mut attach, mut detach, mut probes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..turns {
        let turn = tool.next("turn")?;
        attach.push(turn["attach_ms"].as_f64().context("a time")?);
        detach.push(turn["detach_ms"].as_f64().context("a time")?);
        probes = turn["probes"].as_u64().context("a number")?;
    }
    ensure!(probes >= PROBES, "the program has only {probes} probes");
    let figure = |what: &str, values: &[f64]| {
        let what = format!("{what} {probes} probes");
        Figure::new(BENCH, what, "ms", Spread::of(values)).at_most(BAR_MS)
    };
    Ok(vec![figure("attach", &attach), figure("detach", &detach)])
}
