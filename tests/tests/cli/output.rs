//! Where output goes.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    matrix::{Build, loopprobe},
    only_root,
    scenario::gated,
    take_machine,
};

use crate::{NOBODY, expect, folder, run};

#[test]
fn a_full_disk_is_an_error_that_names_the_file() -> Result<()> {
    take_machine!();
    let target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let pid = target.pid().to_string();
    let output = run(&[
        "attach",
        "--pid",
        &pid,
        "--duration",
        "1s",
        "--output",
        "/dev/full",
    ])?;
    expect(&output, 1, &["/dev/full", "No space left"])?;
    let output = run(&[
        "attach",
        "--pid",
        &pid,
        "--duration",
        "1s",
        "--output",
        "/no/such/folder/x",
    ])?;
    expect(&output, 1, &["/no/such/folder/x", "No such file"])
}

#[test]
fn a_closed_pipe_ends_quietly() -> Result<()> {
    take_machine!();
    let mut target = gated(Build::DEFAULT, "truth", &["sleep"])?;
    let mut child = Command::new(loopprobe()?)
        .args([
            "attach",
            "--pid",
            &target.pid().to_string(),
            "--threshold",
            "0",
            "--duration",
            "20s",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut output = child.stdout.take().context("a pipe")?;
    let mut first = [0; 1];
    output.read_exact(&mut first)?;
    drop(output);
    target.work()?;
    let ended = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&ended.stderr);
    ensure!(
        ended.status.code() == Some(0) && errors.is_empty(),
        "{}: {errors}",
        ended.status
    );
    ensure!(target.is_alive()?, "the target has ended");
    Ok(())
}

#[test]
fn an_output_file_belongs_to_the_user_who_called_sudo() -> Result<()> {
    take_machine!();
    only_root!(Sudo);
    let path = folder("owner")?.join("report.txt");
    let status = Command::new(loopprobe()?)
        .args(["run", "--output", &path.display().to_string(), "--", "true"])
        .env("SUDO_UID", NOBODY.to_string())
        .env("SUDO_GID", NOBODY.to_string())
        .status()?;
    ensure!(status.success(), "{status}");
    let metadata = fs::metadata(&path)?;
    ensure!(
        (metadata.uid(), metadata.gid()) == (NOBODY, NOBODY),
        "{metadata:?}"
    );
    Ok(())
}

#[test]
fn links_in_a_folder_that_anybody_can_write_to_are_not_followed() -> Result<()> {
    take_machine!();
    let folder = folder("shared")?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777))?;
    let (victim, link) = (folder.join("victim"), folder.join("report.txt"));
    fs::write(&victim, "precious")?;
    symlink(&victim, &link)?;
    let output = run(&["run", "--output", &link.display().to_string(), "--", "true"])?;
    expect(&output, 1, &["report.txt", "symbolic link"])?;
    ensure!(
        fs::read_to_string(&victim)? == "precious",
        "the link was followed"
    );
    Ok(())
}
