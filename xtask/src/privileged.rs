//! Runs a command as root, through sudo with this environment where that is needed.

use std::{
    env,
    ffi::{OsStr, OsString},
    process::Command,
};

/// What to put before a command so that it runs as root: nothing for root, else sudo with this
/// environment. sudo would replace PATH, on which cargo depends.
pub(crate) fn prefix() -> Vec<OsString> {
    if is_root() {
        return Vec::new();
    }
    let mut path = OsString::from("PATH=");
    path.push(env::var_os("PATH").unwrap_or_default());
    [
        OsStr::new("sudo"),
        OsStr::new("--preserve-env"),
        OsStr::new("env"),
        &path,
    ]
    .map(OsStr::to_owned)
    .to_vec()
}

/// A command that runs as root.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    match prefix().split_first() {
        None => Command::new(program),
        Some((sudo, rest)) => {
            let mut command = Command::new(sudo);
            command.args(rest).arg(program);
            command
        }
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
