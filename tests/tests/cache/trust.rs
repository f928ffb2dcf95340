//! Trust: no entry is used that somebody else may have written, or that is damaged.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{
    folder::Folder,
    privileges::{self, place},
};

use crate::{Cache, expect, stripped};

fn chown(path: &Path, owner: u32) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a NUL.
    let result = unsafe { libc::lchown(path.as_ptr(), owner, owner) };
    ensure!(result == 0, "chown: {}", io::Error::last_os_error());
    Ok(())
}

/// Spoils all entries, wants none to be used and then new ones in their place.
fn spoil(what: &str, spoil: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let (cache, folder) = (Cache::new()?, Folder::new("file")?);
    let file = stripped(&folder)?;
    expect(&cache, &file, false)?;
    expect(&cache, &file, true)?;
    let entries = cache.entries()?;
    ensure!(!entries.is_empty());
    for entry in &entries {
        spoil(entry)?;
    }
    expect(&cache, &file, false).context(what.to_owned())?;
    expect(&cache, &file, true).context(what.to_owned())
}

#[test]
fn an_entry_that_was_tampered_with_is_not_used() -> Result<()> {
    let _place = place()?;
    spoil("another byte", |entry| {
        let mut bytes = fs::read(entry)?;
        *bytes.last_mut().context("bytes")? ^= 1;
        Ok(fs::write(entry, bytes)?)
    })?;
    spoil("half an entry", |entry| {
        let length = fs::metadata(entry)?.len();
        Ok(OpenOptions::new()
            .write(true)
            .open(entry)?
            .set_len(length / 2)?)
    })?;
    spoil("an empty entry", |entry| Ok(fs::write(entry, "")?))?;
    spoil("another format", |entry| {
        let mut bytes = fs::read(entry)?;
        bytes[15] += 1;
        Ok(fs::write(entry, bytes)?)
    })?;
    spoil("written to by all", |entry| {
        Ok(fs::set_permissions(entry, Permissions::from_mode(0o666))?)
    })?;
    spoil("a link", |entry| {
        let elsewhere = entry.with_extension("elsewhere");
        fs::rename(entry, &elsewhere)?;
        Ok(symlink(&elsewhere, entry)?)
    })?;
    spoil("a hard link", |entry| {
        Ok(fs::hard_link(entry, entry.with_extension("elsewhere"))?)
    })?;
    if privileges::is_root() {
        spoil("another user's", |entry| chown(entry, 65534))?;
    }
    Ok(())
}

/// What one user's file says is not taken for another's.
#[test]
fn a_folder_that_others_can_write_to_is_not_used() -> Result<()> {
    let _place = place()?;
    if !privileges::is_root() {
        return privileges::skip("root is needed to give folders away");
    }
    let folder = Folder::new("file")?;
    let file = stripped(&folder)?;
    let given_away = |path: &Path| chown(path, 65534);
    let open = |path: &Path| -> Result<()> {
        Ok(fs::set_permissions(path, Permissions::from_mode(0o777))?)
    };
    let link = |path: &Path| -> Result<()> {
        let elsewhere = path.with_extension("elsewhere");
        fs::rename(path, &elsewhere)?;
        Ok(symlink(&elsewhere, path)?)
    };
    let spoil = |way: &dyn Fn(&Path) -> Result<()>| -> Result<()> {
        let cache = Cache::new()?;
        expect(&cache, &file, false)?;
        expect(&cache, &file, true)?;
        let before = cache.entries()?.len();
        way(&cache.folder())?;
        expect(&cache, &file, false)?;
        expect(&cache, &file, false)?;
        ensure!(cache.entries()?.len() == before);
        Ok(())
    };
    spoil(&given_away)?;
    spoil(&open)?;
    spoil(&link)?;
    // Neither is the home of another user, as HOME may be under sudo.
    let home = Cache::new()?;
    chown(home.0.path(), 65534)?;
    let mut command = home.command()?;
    let status = (command.env("HOME", home.0.path()).arg("inspect").arg(&file))
        .stdout(File::create("/dev/null")?)
        .status()?;
    ensure!(status.success() && fs::read_dir(home.0.path())?.next().is_none());
    Ok(())
}
