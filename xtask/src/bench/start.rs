//! How long it takes from the command to the first timed poll, the head, and the first long poll
//! that is explained.

use std::{
    path::Path,
    process::Command,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;

use super::{build, figure::Figure, progress, running::Running, statistics::Spread};
use crate::privileged;

const BENCH: &str = "start";
/// The bar for the first timed poll, in milliseconds after the command.
const BAR_MS: f64 = 500.0;

/// With a program of this repository that has a thousand task types, or with the processes of
/// others.
pub(super) fn measure(turns: u32, pids: &[u32]) -> anyhow::Result<Vec<Figure>> {
    let loopprobe = build::loopprobe()?;
    if !pids.is_empty() {
        let figures = pids.iter().map(|pid| of(&loopprobe, *pid, turns));
        let figures: Vec<_> = figures.collect::<anyhow::Result<_>>()?;
        return Ok(figures.into_iter().flatten().collect());
    }
    let many = build::target("many")?;
    let target = Running::start(Command::new(&many).args(["--hold", "--millis", "120000"]))?;
    target.next("ready")?;
    Ok(of(&loopprobe, target.pid(), turns)?.into())
}

fn of(loopprobe: &Path, pid: u32, turns: u32) -> anyhow::Result<[Figure; 2]> {
    progress(&format!("start: attaching to {pid}"));
    let (mut timed, mut head, mut name) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..turns {
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let since = Instant::now();
        let session = Running::start(privileged::command(loopprobe).args([
            "attach",
            "--format",
            "json",
            "--pid",
            &pid.to_string(),
        ]))?;
        let said = session.next("session")?;
        head.push(since.elapsed().as_secs_f64() * 1e3);
        let start_ns = said["start_unix_ns"].as_u64().context("a time")?;
        timed.push((start_ns as f64 - began.as_nanos() as f64) / 1e6);
        name = said["name"].as_str().unwrap_or("?").to_owned();
        session.interrupt("loopprobe")?;
    }
    let figure = |what: &str, values: &[f64]| {
        Figure::new(BENCH, format!("{name}: {what}"), "ms", Spread::of(values))
    };
    Ok([
        figure("the first poll is timed after", &timed).at_most(BAR_MS),
        figure("the session's head is there after", &head),
    ])
}
