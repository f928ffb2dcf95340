//! Outputs that cannot be written end in one clear error that names them, and the others are whole.

use std::{
    fs::{self, File},
    process::{Command, Output},
};

use anyhow::{Result, ensure};
use loopprobe::{model::Sink as _, recording::Recorder};
use loopprobe_tests::{
    folder::{Folder, SmallDisk},
    matrix, privileges, synthetic,
};

fn recording(folder: &Folder) -> Result<String> {
    let path = folder.file("session.lpr");
    let mut recorder = Recorder::new(File::create(&path)?)?;
    for event in synthetic::session(&synthetic::polls(200)) {
        recorder.event(&event)?;
    }
    Ok(path)
}

fn report(args: &[&str]) -> Result<Output> {
    Ok(Command::new(matrix::loopprobe()?)
        .arg("report")
        .args(args)
        .output()?)
}

/// The one line on stderr, if the command has failed with it.
fn error(output: &Output) -> Result<String> {
    let said = String::from_utf8(output.stderr.clone())?;
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.lines().count() == 1, "{said}");
    Ok(said)
}

fn once(said: &str, part: &str) -> bool {
    said.matches(part).count() == 1
}

#[test]
fn a_full_disk_ends_in_one_error_and_the_other_views_are_whole() -> Result<()> {
    if !privileges::is_root() {
        return privileges::skip("root is needed to mount a small disk");
    }
    let folder = Folder::new("full")?;
    let disk = SmallDisk::mount("small-disk", 4)?;
    let recording = recording(&folder)?;
    let whole = folder.file("whole.html");
    for view in ["--html", "--flamegraph", "--timeline", "--output"] {
        let full = disk.file("view");
        let other = match view {
            "--html" => ["--flamegraph", &whole],
            _ => ["--html", &whole],
        };
        // The short report has room on the disk.
        let said = error(&report(
            &[&[&recording, "--verbose", view, &full][..], &other[..]].concat(),
        )?)?;
        ensure!(once(&said, &full) && once(&said, "No space left"), "{said}");
        let text = fs::read_to_string(&whole)?;
        ensure!(
            text.trim_end().ends_with('>') && text.contains("api::upload"),
            "{view}"
        );
        fs::remove_file(&whole)?;
        fs::remove_file(&full)?;
    }
    Ok(())
}

#[test]
fn standard_output_on_a_full_disk_is_an_error_too() -> Result<()> {
    let folder = Folder::new("full-stdout")?;
    let output = Command::new(matrix::loopprobe()?)
        .args(["report", &recording(&folder)?])
        .stdout(File::options().write(true).open("/dev/full")?)
        .output()?;
    let said = error(&output)?;
    ensure!(once(&said, "No space left"), "{said}");
    Ok(())
}

#[test]
fn a_path_that_cannot_be_written_or_read_is_named_once() -> Result<()> {
    let folder = Folder::new("unwritable")?;
    let recording = recording(&folder)?;
    let missing = folder.file("missing/report.html");
    let said = error(&report(&[&recording, "--html", &missing])?)?;
    ensure!(
        once(&said, &missing) && once(&said, "No such file"),
        "{said}"
    );
    let own = folder.path().display().to_string();
    let said = error(&report(&[&recording, "--flamegraph", &own])?)?;
    ensure!(once(&said, "Is a directory"), "{said}");
    let said = error(&report(&[&own])?)?;
    ensure!(once(&said, &own) && once(&said, "Is a directory"), "{said}");
    let said = error(&report(&[&missing])?)?;
    ensure!(
        once(&said, &missing) && once(&said, "No such file"),
        "{said}"
    );
    Ok(())
}
