//! Privileges: which are missing, and what to do about it.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
};

use anyhow::{Result, ensure};
use loopprobe_tests::{
    matrix::{Build, loopprobe, privileged_loopprobe},
    only_root,
    scenario::gated,
    take_machine,
};

use crate::{NOBODY, expect, run};

#[test]
fn an_ordinary_user_learns_which_privilege_is_missing() -> Result<()> {
    take_machine!();
    // The folder of the build may not be open to others.
    let copy = std::env::temp_dir().join(format!("loopprobe-cli-{}", std::process::id()));
    fs::copy(privileged_loopprobe()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let output = Command::new(&copy)
        .args([
            "attach",
            "--pid",
            &target.pid().to_string(),
            "--duration",
            "1s",
        ])
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    let doctor = Command::new(&copy)
        .arg("doctor")
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output();
    fs::remove_file(&copy)?;
    expect(&output?, 1, &["permission", "sudo"])?;
    let doctor = doctor?;
    expect(&doctor, 1, &[])?;
    let report = String::from_utf8_lossy(&doctor.stdout);
    for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"] {
        ensure!(report.contains(&format!("FAIL  {capability}")), "{report}");
    }
    ensure!(
        report.contains("setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep"),
        "{report}"
    );
    Ok(())
}

#[test]
fn doctor_finds_nothing_wrong_with_root_and_a_tokio_program() -> Result<()> {
    take_machine!();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let output = run(&["doctor", "--pid", &target.pid().to_string()])?;
    let report = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(0), "{report}");
    ensure!(
        report.contains("Tokio") && report.contains("task types"),
        "{report}"
    );
    Ok(())
}

#[test]
fn root_without_the_capability_is_not_told_to_use_sudo() -> Result<()> {
    take_machine!();
    only_root!(Sudo);
    // A process of another user is closed to root without CAP_SYS_PTRACE, as it often is in a
    // container.
    let mut other = Command::new("sleep")
        .arg("60")
        .uid(NOBODY)
        .gid(NOBODY)
        .spawn()?;
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"])
        .arg(loopprobe()?)
        .arg("ps")
        .output();
    other.kill()?;
    other.wait()?;
    let output = output?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    ensure!(
        errors.contains("could not be read") && errors.contains("--cap-add SYS_PTRACE"),
        "{errors}"
    );
    ensure!(!errors.contains("sudo"), "{errors}");
    Ok(())
}
