//! How much memory loopprobe takes with a large program: not as much as the program.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loopprobe_tests::folder::Folder;
use loopprobe_tests::matrix::{Build, target};
use loopprobe_tests::session::Session;
use loopprobe_tests::share_machine;
use loopprobe_tests::target::Target;

/// `nobody` on most systems.
const NOBODY: u32 = 65_534;

/// What a process has for itself alone, in bytes: memory that is no file's, and files without a name
/// that it keeps in memory.
fn own_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let mut bytes = kib.context("RssAnon")?.parse::<u64>()? << 10;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        let is_memory = |to: PathBuf| to.to_string_lossy().starts_with("/memfd:");
        if fs::read_link(&path).is_ok_and(is_memory) {
            bytes += fs::metadata(&path)?.blocks() * 512;
        }
    }
    Ok(bytes)
}

/// What a session has for itself once it has named the stacks of a few polls of `program`.
fn with(program: &Path) -> Result<u64> {
    let target = Target::start(program, &[])?;
    let mut session = Session::attach(target.pid(), &[])?;
    for _ in 0..3 {
        let poll = session.next_poll(Duration::from_secs(30))?;
        let frames = poll.stacks.iter().flat_map(|stack| &stack.frames);
        let is_told = frames.into_iter().any(|frame| {
            let definition = frame.definition.as_ref();
            definition.is_some_and(|place| place.file.ends_with("bin/large.rs"))
        });
        ensure!(is_told, "nothing tells where the task is defined: {poll:?}");
    }
    let own = own_memory(session.pid())?;
    session.interrupt()?;
    Ok(own)
}

/// The program has 100 MB, and what is looked at of it some hundred KB. loopprobe itself takes some
/// 20 MB, and some 20 more where the C library's debug information is installed.
#[test]
fn a_large_program_is_not_copied_into_memory() -> Result<()> {
    share_machine!();
    let built = target(Build::DEFAULT.stripped(), "large")?;
    let folder = Folder::new("large")?;
    for owner in [0, NOBODY] {
        let program = folder.path().join(format!("large-{owner}"));
        fs::copy(&built, &program)?;
        chown(&program, Some(owner), Some(owner))?;
        let size = fs::metadata(&program)?.len();
        ensure!(size > 100 << 20, "it has {size} bytes");
        let own = with(&program)?;
        println!(
            "owner {owner}: a file of {} MiB, {} MiB for loopprobe itself",
            size >> 20,
            own >> 20
        );
        ensure!(own < size / 2, "{own} bytes of memory for a file of {size}");
    }
    Ok(())
}
