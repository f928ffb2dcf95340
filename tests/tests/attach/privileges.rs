//! What loopprobe may still do while it reports, and what the program that `run` starts may do.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use loopprobe_tests::matrix::{Build, loopprobe, target};
use loopprobe_tests::scenario::gated;
use loopprobe_tests::session::Session;
use loopprobe_tests::target::Target;
use loopprobe_tests::{only_root, share_machine, unprivileged};

/// `nobody` on Debian and elsewhere.
const USER: &str = "65534";

/// Numbers of capabilities (`include/uapi/linux/capability.h`): DAC_READ_SEARCH, SYS_PTRACE,
/// PERFMON, BPF, CHECKPOINT_RESTORE.
const KEPT: u64 = 1 << 2 | 1 << 19 | 1 << 38 | 1 << 39 | 1 << 40;
/// KILL, which the thread that passes signals on has for itself.
const KILL: u64 = 1 << 5;

/// What an ordinary user's loopprobe has on its file: SYS_PTRACE, PERFMON, BPF.
const ON_THE_FILE: u64 = 1 << 19 | 1 << 38 | 1 << 39;

/// What a session keeps: of what it needs, all that it began with.
fn needed() -> u64 {
    match unprivileged::wanted() {
        true => ON_THE_FILE,
        false => KEPT,
    }
}

type Fields = BTreeMap<String, String>;

/// `/proc/PID/task/TID/status` of every thread, by field.
fn threads(pid: u32) -> Result<Vec<Fields>> {
    fs::read_dir(format!("/proc/{pid}/task"))?
        .map(|thread| Ok(fields(&fs::read_to_string(thread?.path().join("status"))?)))
        .collect()
}

fn fields(status: &str) -> Fields {
    status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn bits(fields: &Fields, name: &str) -> Result<u64> {
    let value = fields.get(name).with_context(|| format!("no {name}"))?;
    Ok(u64::from_str_radix(value, 16)?)
}

/// No thread has, or can get, more than it needs; returns the main thread's effective set.
fn reduced(pid: u32) -> Result<u64> {
    let all = threads(pid)?;
    for thread in &all {
        let allowed = match thread["Name"].as_str() {
            "signals" => KILL,
            _ => KEPT,
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let found = bits(thread, set)?;
            ensure!(found & !allowed == 0, "{set} is {found:x} in {thread:?}");
        }
        ensure!(thread["NoNewPrivs"] == "1", "{thread:?}");
    }
    let main = all
        .iter()
        .find(|thread| thread["Pid"] == pid.to_string())
        .context("the main thread")?;
    bits(main, "CapEff")
}

#[test]
fn a_session_keeps_five_capabilities_at_most() -> Result<()> {
    share_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let session = Session::attach(target.pid(), &[])?;
    let kept = reduced(session.pid())?;
    target.work()?;
    let report = session.interrupt()?;
    ensure!(kept == needed(), "{kept:x}");
    ensure!(
        report.ended().iter().any(|poll| poll
            .diagnosis
            .as_ref()
            .is_some_and(|why| why.call.is_some())),
        "no call was named with what is kept"
    );
    Ok(())
}

#[test]
fn a_session_under_sudo_goes_on_as_the_invoking_user_and_still_probes_new_libraries() -> Result<()>
{
    share_machine!();
    only_root!(Sudo);
    let library = target(Build::DEFAULT, "libplugin.so")?;
    let mut command = Command::new(target(Build::DEFAULT, "loader")?);
    command.args(["--rounds", "100", "--gate", "before", "--hold"]);
    let mut target = Target::spawn(command.env("PLUGIN", library))?;
    let session = Session::spawn(
        Command::new(loopprobe()?)
            .args(["attach", "--pid", &target.pid().to_string()])
            .args(["--format", "json"])
            .env("SUDO_UID", USER)
            .env("SUDO_GID", USER),
    )?;
    let kept = reduced(session.pid())?;
    for thread in threads(session.pid())? {
        for ids in ["Uid", "Gid"] {
            ensure!(
                thread[ids].split_ascii_whitespace().all(|id| id == USER),
                "{thread:?}"
            );
        }
    }
    target.send("go")?;
    target.truth()?;
    let report = session.interrupt()?;
    ensure!(kept == KEPT, "{kept:x}");
    ensure!(
        report.remarks("found Tokio") && report.summary.long_polls > 0,
        "the library was not probed: {:?}",
        report.notices
    );
    Ok(())
}

#[test]
fn the_program_that_run_starts_has_none_of_it() -> Result<()> {
    share_machine!();
    let output = Command::new(loopprobe()?)
        .args(["run", "--quiet", "--", "cat", "/proc/self/status"])
        .env("SUDO_UID", USER)
        .env("SUDO_GID", USER)
        .stdin(Stdio::null())
        .output()?;
    let status = fields(&String::from_utf8_lossy(&output.stdout));
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        ensure!(bits(&status, set)? == 0, "{status:?}");
    }
    // The program may start others with more rights, as it could without loopprobe.
    ensure!(status["NoNewPrivs"] == "0", "{status:?}");
    ensure!(bits(&status, "CapBnd")? != 0, "{status:?}");
    Ok(())
}

#[test]
fn a_session_under_run_gives_up_as_much() -> Result<()> {
    share_machine!();
    let session = Session::spawn(
        Command::new(loopprobe()?)
            .args(["run", "--format", "json", "--", "sleep", "5"])
            .stdin(Stdio::null()),
    )?;
    let kept = reduced(session.pid())?;
    drop(session);
    ensure!(kept == needed(), "{kept:x}");
    Ok(())
}
