//! loopprobe as an ordinary user who has nothing but three capabilities on its file.
//!
//! With the variable `LOOPPROBE_UNPRIVILEGED` set, every test runs loopprobe, and its targets, that way.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// `nobody` on Debian and elsewhere.
pub const USER: u32 = 65_534;
/// All that loopprobe needs, on its file.
pub const CAPABILITIES: &str = "cap_bpf,cap_perfmon,cap_sys_ptrace+ep";

/// Whether all tests run that way.
pub fn wanted() -> bool {
    std::env::var_os("LOOPPROBE_UNPRIVILEGED").is_some()
}

/// Makes, in `folder`, a copy of `loopprobe` with the capabilities on it, and a command of the same arguments that runs
/// it as [`USER`]; its path.
///
/// # Errors
/// When that user cannot be given them.
pub fn install(loopprobe: &Path, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    let (copy, command) = (folder.join("loopprobe-cap"), folder.join("loopprobe"));
    // Not over the old one: it may be running, and would lose its capabilities.
    let _ = fs::remove_file(&copy);
    fs::copy(loopprobe, &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    let granted = Command::new("setcap")
        .arg(CAPABILITIES)
        .arg(&copy)
        .status()?;
    ensure!(granted.success(), "setcap: {granted}");
    let script = format!(
        "#!/bin/sh\nexec setpriv --reuid={USER} --regid={USER} --clear-groups --inh-caps=-all '{}' \"$@\"\n",
        copy.display()
    );
    fs::write(&command, script)?;
    fs::set_permissions(&command, Permissions::from_mode(0o755))?;
    Ok(command)
}
