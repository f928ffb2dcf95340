//! loopprobe as an ordinary user who has nothing but three capabilities on its file.
//!
//! With the variable `LOOPPROBE_UNPRIVILEGED` set, every test runs loopprobe, and its targets, that
//! way; a test file can also decide so for itself, with [`always`]. The tests themselves begin as
//! root: they make the user's files and programs, and look from outside at what loopprobe does.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::matrix;

/// `nobody` on Debian and elsewhere.
pub const USER: u32 = 65_534;
/// All that loopprobe needs, on its file.
pub const CAPABILITIES: &str = "cap_bpf,cap_perfmon,cap_sys_ptrace+ep";

static ALWAYS: AtomicBool = AtomicBool::new(false);

/// Makes all tests of this test program run that way.
pub fn always() {
    ALWAYS.store(true, Relaxed);
}

/// Whether all tests run that way.
pub fn wanted() -> bool {
    ALWAYS.load(Relaxed) || std::env::var_os("LOOPPROBE_UNPRIVILEGED").is_some()
}

/// What to put before a command in a shell, so that it runs as [`USER`].
pub fn prefix() -> String {
    format!("setpriv --reuid={USER} --regid={USER} --clear-groups --inh-caps=-all")
}

/// Gives what loopprobe or its target will write to, to [`USER`], where they run as that.
///
/// # Errors
/// When that user cannot be given it.
pub fn give(path: &Path) -> io::Result<()> {
    if wanted() {
        std::os::unix::fs::chown(path, Some(USER), Some(USER))?;
    }
    Ok(())
}

/// Where [`USER`] reaches a program: at its own path, or, where a folder above is closed to others,
/// at that of a copy.
///
/// # Errors
/// When it cannot be copied.
pub fn reachable(program: PathBuf) -> Result<PathBuf> {
    if !wanted() || is_open(&program) {
        return Ok(program);
    }
    // Programs look for others beside them, so the folders are kept.
    let copy = public_folder()?.join(program.strip_prefix("/")?);
    fs::create_dir_all(copy.parent().context("a folder")?)?;
    fs::copy(&program, &copy)?;
    Ok(copy)
}

/// Makes a copy of `loopprobe` with `capabilities` on it, and a command `name` that runs it as
/// [`USER`]; the command's path.
///
/// # Errors
/// When that user cannot be given them.
pub fn install(loopprobe: &Path, name: &str, capabilities: &str) -> Result<PathBuf> {
    let folder = public_folder()?;
    let (copy, command) = (folder.join(format!("{name}-cap")), folder.join(name));
    fs::copy(loopprobe, &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    if !capabilities.is_empty() {
        let granted = Command::new("setcap")
            .arg(capabilities)
            .arg(&copy)
            .status()
            .context("setcap is missing: apt-get install libcap2-bin")?;
        ensure!(granted.success(), "setcap {capabilities}: {granted}");
    }
    let script = format!("#!/bin/sh\nexec {} '{}' \"$@\"\n", prefix(), copy.display());
    fs::write(&command, script)?;
    fs::set_permissions(&command, Permissions::from_mode(0o755))?;
    Ok(command)
}

/// A folder of this process that everybody may enter, and where capabilities on files count;
/// removed at its end.
///
/// # Errors
/// When there is no such place.
pub fn public_folder() -> Result<PathBuf> {
    static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);
    extern "C" fn remove() {
        let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = folder.map(fs::remove_dir_all);
    }
    let mut folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = folder.as_ref() {
        return Ok(folder.clone());
    }
    let new = parent()?.join(format!("loopprobe-public-{}", std::process::id()));
    // A folder that is there is of a process that was killed, or planted by somebody.
    let _ = fs::remove_dir_all(&new);
    fs::create_dir(&new)?;
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    // SAFETY: the function takes no argument, does not unwind, and lives as long as the program.
    ensure!(unsafe { libc::atexit(remove) } == 0, "atexit");
    *folder = Some(new.clone());
    Ok(new)
}

/// Temporary files often lie on a file system that ignores capabilities, and a build often in a
/// folder closed to others.
fn parent() -> Result<PathBuf> {
    let places = [
        matrix::target_dir(),
        "/var/tmp".into(),
        std::env::temp_dir(),
    ];
    places
        .into_iter()
        .find(|place| is_open(place) && honours_capabilities(place))
        .context("no folder that everybody may enter is on a file system mounted without nosuid")
}

/// Whether others may read it, and enter all folders on the way.
fn is_open(path: &Path) -> bool {
    let allows = |path: &Path, bits: u32| {
        fs::metadata(path).is_ok_and(|metadata| metadata.mode() & bits == bits)
    };
    allows(path, 0o5) && path.ancestors().skip(1).all(|folder| allows(folder, 0o1))
}

fn honours_capabilities(path: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()) else {
        return false;
    };
    let mut facts = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a C string, and the kernel fills in the structure where it returns 0.
    unsafe {
        libc::statvfs(path.as_ptr(), facts.as_mut_ptr()) == 0
            && facts.assume_init().f_flag & libc::ST_NOSUID == 0
    }
}
