//! Entries: how many there may be, and how they are written.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Result, ensure};
use loopprobe_tests::{folder::Folder, privileges::place};

use crate::{Cache, expect, stripped, truth};

/// The bounds that docs/cache.md promises.
const MOST_ENTRIES: usize = 512;
const MOST_BYTES: u64 = 64 << 20;

#[test]
fn entries_are_private_bounded_and_old_ones_go_first() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let file = stripped(&folder)?;
    fs::create_dir(cache.folder())?;
    fs::set_permissions(cache.folder(), Permissions::from_mode(0o700))?;
    let other = cache.folder().join("somebody's notes");
    fs::write(&other, "not an entry")?;
    let aged = |name: String, bytes: u64, hours: u64| -> Result<PathBuf> {
        let path = cache.folder().join(name);
        let file = File::create(&path)?;
        file.set_len(bytes)?;
        file.set_modified(SystemTime::now() - Duration::from_hours(hours))?;
        Ok(path)
    };
    for index in 0..600 {
        aged(format!("{index:064x}"), 200 << 10, 2 + index)?;
    }
    let left_over = aged(".unfinished-1-2-3".into(), 10, 2)?;
    expect(&cache, &file, false)?;
    expect(&cache, &file, true)?;
    let entries = cache.entries()?;
    let entries: Vec<_> = entries.iter().filter(|path| **path != other).collect();
    let bytes: u64 = (entries.iter())
        .map(|path| Ok(fs::metadata(path)?.len()))
        .sum::<io::Result<u64>>()?;
    ensure!(entries.len() <= MOST_ENTRIES, "{} entries", entries.len());
    ensure!(bytes <= MOST_BYTES, "{bytes} bytes");
    ensure!(
        bytes > MOST_BYTES / 2,
        "too much was removed: {bytes} bytes are left"
    );
    ensure!(other.exists() && !left_over.exists());
    let exists = |index: u32| cache.folder().join(format!("{index:064x}")).exists();
    ensure!(exists(0) && !exists(599));
    for entry in entries
        .iter()
        .filter(|path| fs::metadata(path).is_ok_and(|m| m.blocks() > 0))
    {
        ensure!(fs::metadata(entry)?.mode() & 0o777 == 0o600, "{entry:?}");
    }
    Ok(())
}

#[test]
fn many_at_once_write_whole_entries() -> Result<()> {
    let _place = place()?;
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let file = stripped(&folder)?;
    let expected = truth(&file)?;
    thread::scope(|scope| -> Result<()> {
        let runs: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| cache.inspect(&file)))
            .collect();
        for run in runs {
            let (said, _) = run.join().expect("no panic")?;
            ensure!(said == expected);
        }
        Ok(())
    })?;
    expect(&cache, &file, true)?;
    let unfinished = |path: &PathBuf| path.to_string_lossy().contains("unfinished");
    ensure!(!cache.entries()?.iter().any(unfinished));
    Ok(())
}
