//! Targets in other pid and mount namespaces, as in containers.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::{Build, target};
use loopprobe_tests::scenario::THRESHOLD_NS;
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;

/// The ids of the threads of `pid`: inside its own namespace, and here.
fn thread_ids(pid: u32) -> Result<HashMap<u32, u32>> {
    let mut ids = HashMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = std::fs::read_to_string(entry?.path().join("status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .context("NSpid in the status")?;
        let all: Vec<u32> = line
            .split_ascii_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        ids.insert(all[all.len() - 1], all[0]);
    }
    Ok(ids)
}

#[test]
fn a_target_in_another_pid_and_mount_namespace() -> Result<()> {
    share_machine!();
    let program = target(Build::DEFAULT.stripped(), "truth")?;
    // The program lies on a file system that only the target's mount namespace has.
    let prepare = format!(
        "mount -t tmpfs none /mnt && cp '{}' /mnt/truth && ",
        program.display()
    );
    let mut outer = Target::in_namespaces(&prepare, "/mnt/truth sleep --gate inside --hold")?;
    let pid = outer.child()?;
    ensure!(
        outer.head.last().is_some_and(|line| line["pid"] != pid),
        "it has the same id inside and here"
    );
    let ids = thread_ids(pid)?;
    let session = Session::attach(pid, &[])?;
    let mut truth = outer.work()?;
    let report = session.interrupt()?;
    truth.retain(|poll| poll.start_ns >= report.head.start_ns && poll.kind != "span");
    for poll in &mut truth {
        poll.tid = *ids
            .get(&poll.tid)
            .with_context(|| format!("thread {} came later", poll.tid))?;
    }
    ensure!(
        report.ended().iter().all(|poll| poll.pid == pid),
        "another process id"
    );
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("another pid and mount namespace")
}
