//! Files that are what they were, or are not.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
    thread,
};

use anyhow::{Result, ensure};
use loopprobe_tests::{
    folder::Folder,
    matrix::{Build, Profile},
    privileges::place,
};

use crate::{Cache, SETTLED, copy, expect, stripped, truth};

/// Writes into a file where it is, and gives it back its size and the time of its last write.
fn replace_in_place(path: &Path, from: &[u8], to: &[u8]) -> Result<usize> {
    ensure!(from.len() == to.len());
    let written = fs::metadata(path)?.modified()?;
    let bytes = fs::read(path)?;
    let file = OpenOptions::new().write(true).open(path)?;
    let windows = bytes.windows(from.len()).enumerate();
    let places: Vec<_> = windows.filter(|(_, bytes)| *bytes == from).collect();
    for (at, _) in &places {
        file.write_all_at(to, *at as u64)?;
    }
    file.set_modified(written)?;
    Ok(places.len())
}

#[test]
fn what_is_remembered_is_what_the_file_gives() -> Result<()> {
    let _place = place()?;
    let debug_info = Build {
        profile: Profile::DebugInfo,
        ..Build::DEFAULT
    };
    for build in [Build::DEFAULT, Build::DEFAULT.stripped(), debug_info] {
        let (cache, folder) = (Cache::new()?, Folder::new("file")?);
        let file = copy(&folder, build)?;
        thread::sleep(SETTLED);
        expect(&cache, &file, false)?;
        expect(&cache, &file, true)?;
        let output = (cache.command()?)
            .args(["inspect", "--no-cache", "--log-level", "debug"])
            .arg(&file)
            .output()?;
        ensure!(!String::from_utf8_lossy(&output.stderr).contains("cache:"));
    }
    Ok(())
}

#[test]
fn a_file_that_was_written_to_in_place_is_read_anew() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let file = stripped(&folder)?;
    thread::sleep(SETTLED);
    expect(&cache, &file, false)?;
    expect(&cache, &file, true)?;
    let count = replace_in_place(&file, b"src/bin/zoo.rs", b"src/bin/boo.rs")?;
    ensure!(count > 0, "no location to change");
    expect(&cache, &file, false)?;
    let (said, _) = cache.inspect(&file)?;
    ensure!(said.contains("src/bin/boo.rs") && !said.contains("src/bin/zoo.rs"));
    Ok(())
}

/// Symbols are not loaded, so that the loaded bytes do not show that they have changed.
#[test]
fn symbols_that_were_written_to_in_place_are_read_anew() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let file = copy(&folder, Build::DEFAULT)?;
    // Changed a moment ago, it may be changed again without showing it.
    expect(&cache, &file, false)?;
    expect(&cache, &file, false)?;
    thread::sleep(SETTLED);
    expect(&cache, &file, false)?;
    expect(&cache, &file, true)?;
    ensure!(replace_in_place(&file, b"3zoo", b"3boo")? > 0);
    expect(&cache, &file, false)?;
    Ok(())
}

#[test]
fn a_stripped_twin_with_the_same_build_id_is_another_file() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let whole = copy(&folder, Build::DEFAULT)?;
    let twin = folder.path().join("twin");
    let mut strip = Command::new("strip");
    let status = strip.arg("-o").args([&twin, &whole]).status()?;
    ensure!(status.success(), "strip: {status}");
    thread::sleep(SETTLED);
    let build_id = |said: &str| -> Result<String> {
        let said: serde_json::Value = serde_json::from_str(said)?;
        Ok(said["files"][0]["build_id"].to_string())
    };
    let (id, twins_id) = (build_id(&truth(&whole)?)?, build_id(&truth(&twin)?)?);
    ensure!(id == twins_id && id != "null", "{id} {twins_id}");
    for file in [&whole, &twin] {
        expect(&cache, file, false)?;
        expect(&cache, file, true)?;
    }
    // The names of one are not those of the other, so the test would see one in place of another.
    ensure!(
        truth(&whole)?.contains("\"stripped\":false")
            && truth(&twin)?.contains("\"stripped\":true")
    );
    Ok(())
}
