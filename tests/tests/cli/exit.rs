//! Exit codes.

use std::{
    io::Read as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    matrix::{Build, loopprobe},
    scenario::gated,
    take_machine,
};

use crate::{expect, run};

#[test]
fn wrong_usage_ends_with_2() -> Result<()> {
    expect(&run(&["attach"])?, 2, &["--pid"])?;
    expect(
        &run(&["attach", "--pid", "1", "--threshold", "10"])?,
        2,
        &["500us"],
    )?;
    expect(&run(&["attach", "--pid", "1", "--name", "x"])?, 2, &[])?;
    expect(&run(&["run"])?, 2, &[])
}

#[test]
fn a_passed_limit_ends_with_3_and_a_kept_one_with_0() -> Result<()> {
    take_machine!();
    for (limit, code) in [("1ms", 3), ("1m", 0)] {
        let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
        let mut child = Command::new(loopprobe()?)
            .args([
                "attach",
                "--pid",
                &target.pid().to_string(),
                "--duration",
                "4s",
                "--fail-over",
                limit,
            ])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = child.stdout.take().context("a pipe")?;
        output.read_exact(&mut [0; 1])?;
        target.work()?;
        output.read_to_end(&mut Vec::new())?;
        let status = child.wait()?;
        ensure!(status.code() == Some(code), "{limit}: {status}");
    }
    Ok(())
}

#[test]
fn run_passes_on_the_childs_exit_code() -> Result<()> {
    take_machine!();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)] {
        let output = run(&["run", "--quiet", "--", "sh", "-c", script])?;
        expect(&output, code, &[]).with_context(|| script.to_owned())?;
    }
    expect(
        &run(&["run", "--", "no-such-program-here"])?,
        1,
        &["no-such-program-here", "PATH"],
    )
}
