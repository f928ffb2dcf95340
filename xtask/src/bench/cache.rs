//! What is remembered of files saves so much: the same commands in turn, without it and with what
//! the one before has left.

use std::{
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::ensure;

use super::{build, figure::Figure, progress, running::Running, statistics::Spread};
use crate::privileged;

const BENCH: &str = "cache";

/// With a program of this repository that has a thousand task types, or with the processes of
/// others.
pub(super) fn measure(turns: u32, pids: &[u32]) -> anyhow::Result<Vec<Figure>> {
    let loopprobe = build::loopprobe()?;
    let mut figures = ps(&loopprobe, turns)?;
    if !pids.is_empty() {
        for pid in pids {
            figures.extend(of(&loopprobe, *pid, turns)?);
        }
        return Ok(figures);
    }
    let many = build::target("many")?;
    let target = Running::start(Command::new(&many).args(["--hold", "--millis", "600000"]))?;
    target.next("ready")?;
    figures.extend(of(&loopprobe, target.pid(), turns)?);
    Ok(figures)
}

fn ps(loopprobe: &Path, turns: u32) -> anyhow::Result<Vec<Figure>> {
    progress("cache: ps");
    in_turn("ps", turns, |without| {
        finish(command(loopprobe, without).arg("ps"))?;
        Ok(None)
    })
}

fn of(loopprobe: &Path, pid: u32, turns: u32) -> anyhow::Result<Vec<Figure>> {
    progress(&format!("cache: {pid}"));
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"))?;
    let (name, pid) = (name.trim_end(), pid.to_string());
    let mut figures = in_turn(&format!("{name}: inspect"), turns, |without| {
        finish(command(loopprobe, without).args(["inspect", "--pid", &pid]))?;
        Ok(None)
    })?;
    // Reports have their names, so the first one waits for them.
    let report = |without| {
        let args = ["attach", "--format", "json", "--interval", "100ms", "--pid"];
        let session = Running::start(command(loopprobe, without).args(args).arg(&pid))?;
        session.next("interval")?;
        Ok(Some(session))
    };
    let what = format!("{name}: the first report is there");
    figures.extend(in_turn(&what, turns, report)?);
    Ok(figures)
}

/// loopprobe without its memory of files, or with it.
fn command(loopprobe: &Path, without: bool) -> Command {
    // `env` in between: sudo hands the environment on, and cargo's turns the memory off.
    let mut command = privileged::command("env");
    let own: OsString = match without {
        true => "LOOPPROBE_NO_CACHE=1".into(),
        false => "--unset=LOOPPROBE_NO_CACHE".into(),
    };
    command.arg(own).arg(loopprobe);
    command
}

fn finish(command: &mut Command) -> anyhow::Result<()> {
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Times both states in turn; the first time with it, which finds nothing, does not count. A
/// session that a run leaves is ended once its time was taken.
fn in_turn(
    what: &str,
    turns: u32,
    run: impl Fn(bool) -> anyhow::Result<Option<Running>>,
) -> anyhow::Result<Vec<Figure>> {
    let timed = |without: bool| {
        let since = Instant::now();
        let session = run(without)?;
        let took = since.elapsed().as_secs_f64() * 1e3;
        session.map_or(Ok(()), |session| session.interrupt("loopprobe"))?;
        anyhow::Ok(took)
    };
    timed(false)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        without.push(timed(true)?);
        with.push(timed(false)?);
    }
    let figure = |state: &str, times: &[f64]| {
        Figure::new(BENCH, format!("{what}, {state}"), "ms", Spread::of(times))
    };
    Ok(vec![
        figure("nothing remembered", &without),
        figure("remembered", &with),
    ])
}
