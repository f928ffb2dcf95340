//! Tasks whose polls take long together, though none of them has to.

use anyhow::{Context as _, Result, ensure};
use loopprobe::model::{Finding, FindingKind};
use loopprobe_tests::{
    halve_machine,
    matrix::Build,
    scenario::{gated, observe},
};

/// Two tasks that compute, each for more than a second in all: each is told of at one second, and at
/// each double of it, with what its polls have taken by then.
#[test]
fn polls_that_take_long_together_are_told_with_their_task() -> Result<()> {
    halve_machine!();
    for light in [false, true] {
        let mut target = gated(
            Build::DEFAULT.stripped(),
            "truth",
            &["cpu", "--rounds", "160"],
        )?;
        let mut args = vec!["--slow-task", "1s", "--threshold", "1s"];
        args.extend(light.then_some("--light"));
        let (truth, report) = observe(&mut target, &args)?;
        let of_polls =
            |f: &&Finding| f.kind == FindingKind::SlowTask && f.evidence.busy_ns.is_some();
        let found: Vec<&Finding> = report.findings.iter().filter(of_polls).collect();
        ensure!(found.len() >= 2, "{:?}", report.findings);
        for finding in found {
            let evidence = &finding.evidence;
            let id = evidence.task_id.context("a task")?;
            let busy_ns = evidence.busy_ns.context("a time")?;
            let polls = truth.iter().filter(|poll| poll.task_id == Some(id));
            // What ends just then may be on either side.
            let until = polls.filter(|poll| poll.end_ns <= finding.time_ns + 1_000_000);
            let sum_ns: u64 = until.map(|poll| poll.end_ns - poll.start_ns).sum();
            ensure!(sum_ns > 0, "no task of the target: {evidence:?}");
            ensure!(
                busy_ns.abs_diff(sum_ns) * 50 < sum_ns,
                "{busy_ns} of {sum_ns}: {evidence:?}"
            );
            ensure!(evidence.certain && busy_ns >= 1_000_000_000, "{evidence:?}");
        }
    }
    Ok(())
}
