//! What the kernel runs in the target for a probe is never shown as the target's.

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::matrix::{self, Build, target};
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;

/// Polls so short that samples find many of them at their return probe.
#[test]
fn no_stack_shows_a_probes_page_or_system_call() -> Result<()> {
    share_machine!();
    matrix::loopprobe()?;
    let path = target(Build::DEFAULT, "busy")?;
    let args = ["pace", "--rounds", "4000", "--millis", "60000"];
    let target = Target::start(&path, &args)?;
    let args = [
        "--threshold",
        "0",
        "--sample-hz",
        "4999",
        "--duration",
        "5s",
    ];
    let report = Session::attach(target.pid(), &args)?.finish()?;
    let stacks: Vec<_> = report.polls.iter().flat_map(|poll| &poll.stacks).collect();
    ensure!(stacks.len() > 5, "only {} stacks", stacks.len());
    for stack in &stacks {
        let own = stack
            .syscall
            .as_deref()
            .filter(|name| name.contains("syscall_33"));
        ensure!(own.is_none(), "{stack:?}");
        let nowhere = stack.frames.iter().find(|frame| frame.module.is_none());
        ensure!(nowhere.is_none(), "{stack:?}");
    }
    for poll in &report.polls {
        let diagnosis = poll.diagnosis.as_ref().context("no diagnosis")?;
        let own = diagnosis
            .evidence
            .get("syscall")
            .filter(|name| name.contains("syscall_33"));
        ensure!(own.is_none(), "{diagnosis:?}");
    }
    Ok(())
}
