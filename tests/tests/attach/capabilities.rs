//! loopprobe as an ordinary user, with three capabilities on its file. Where all tests run that way, these have nothing to
//! add.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use loopprobe_tests::accuracy::compare;
use loopprobe_tests::matrix::{Build, privileged_loopprobe, target};
use loopprobe_tests::scenario::THRESHOLD_NS;
use loopprobe_tests::session::Session;
use loopprobe_tests::take_machine;
use loopprobe_tests::target::Target;
use loopprobe_tests::unprivileged::{self, CAPABILITIES, USER};

/// A directory that everybody may enter, gone when dropped.
struct Public(PathBuf);

impl Public {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("loopprobe-test-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Public(path))
    }

    fn copy(&self, file: &Path, name: &str) -> Result<PathBuf> {
        let copy = self.0.join(name);
        std::fs::copy(file, &copy)?;
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))?;
        Ok(copy)
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        format!("--reuid={USER}"),
        format!("--regid={USER}"),
        "--clear-groups".to_owned(),
        "--inh-caps=-all".to_owned(),
    ]);
    command.arg(program);
    command
}

#[test]
fn an_ordinary_user_needs_three_capabilities_on_the_file() -> Result<()> {
    take_machine!();
    if unprivileged::wanted() {
        return Ok(());
    }
    let public = Public::new()?;
    let program = public.copy(&target(Build::DEFAULT, "truth")?, "truth")?;
    let loopprobe = public.copy(&privileged_loopprobe()?, "loopprobe")?;
    let granted = Command::new("setcap")
        .arg(CAPABILITIES)
        .arg(&loopprobe)
        .status()?;
    ensure!(granted.success(), "setcap: {granted}");
    let mut target =
        Target::spawn(as_user(&program).args(["sleep", "--gate", "inside", "--hold"]))?;
    let pid = target.pid().to_string();
    let session =
        Session::spawn(as_user(&loopprobe).args(["attach", "--pid", &pid, "--format", "json"]))?;
    let mut truth = target.work()?;
    let report = session.interrupt()?;
    truth.retain(|poll| poll.start_ns >= report.head.start_ns);
    compare(&truth, &report.polls, "async", THRESHOLD_NS)?.check("an ordinary user")
}

#[test]
fn without_capabilities_the_error_names_what_is_missing() -> Result<()> {
    take_machine!();
    if unprivileged::wanted() {
        return Ok(());
    }
    let public = Public::new()?;
    let program = public.copy(&target(Build::DEFAULT, "truth")?, "truth")?;
    let loopprobe = public.copy(&privileged_loopprobe()?, "loopprobe")?;
    let target = Target::spawn(as_user(&program).args(["sleep", "--gate", "inside", "--hold"]))?;
    let output = as_user(&loopprobe)
        .args(["attach", "--pid", &target.pid().to_string()])
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr).to_lowercase();
    ensure!(
        output.status.code() == Some(1),
        "{}: {errors}",
        output.status
    );
    ensure!(
        errors.contains("cap_bpf") || errors.contains("sudo"),
        "the error does not help: {errors}"
    );
    Ok(())
}
