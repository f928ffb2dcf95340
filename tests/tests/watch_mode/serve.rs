//! `serve` in this mode.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use loopprobe_tests::{
    matrix::{self, Build, target_dir},
    scenario::gated,
    take_machine,
    text::changed_bytes,
};

/// A session of `serve` watches where it is told to.
#[test]
fn serve_watches_if_it_is_told_to() -> Result<()> {
    take_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let output = target_dir().join("watch-serve.jsonl");
    let mut command = Command::new(matrix::loopprobe()?);
    command.args(["serve", "--mode", "watch", "--format", "json", "--output"]);
    let command_line = format!("*{}*", matrix::target(Build::DEFAULT, "truth")?.display());
    command.arg(&output).args(["--command", &command_line]);
    let mut daemon = command.spawn()?;
    let result = (|| {
        let lines = || std::fs::read_to_string(&output).unwrap_or_default();
        until(|| lines().contains(r#""type":"session""#))?;
        ensure!(lines().contains(r#""mode":"watch""#), "{}", lines());
        ensure!(changed_bytes(target.pid())? == 0, "the text is changed");
        target.send("go")?;
        until(|| lines().contains(r#""type":"long_poll""#))
    })();
    daemon.kill()?;
    daemon.wait()?;
    result
}

fn until(is_so: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        ensure!(Instant::now() < end, "not in time");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
