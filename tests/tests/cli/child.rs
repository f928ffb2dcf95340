//! What `run` starts.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use loopprobe_tests::{matrix::loopprobe, only_root, take_machine};

use crate::{NOBODY, run};

#[test]
fn the_child_of_run_begins_with_default_signals_and_as_the_user_who_called_sudo() -> Result<()> {
    take_machine!();
    only_root!(Sudo);
    let output = Command::new(loopprobe()?)
        .args([
            "run",
            "--quiet",
            "--",
            "sh",
            "-c",
            "id -u; grep -E 'Sig(Blk|Ign)' /proc/self/status",
        ])
        .env("SUDO_UID", NOBODY.to_string())
        .env("SUDO_GID", NOBODY.to_string())
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().filter(|line| !line.is_empty());
    ensure!(lines.next() == Some("65534"), "{text}");
    // Other ignored signals may come from whoever started the test (nohup).
    let pipe = 1 << (libc::SIGPIPE - 1);
    for (field, forbidden) in [("SigBlk:", u64::MAX), ("SigIgn:", pipe)] {
        let line = lines.next().context("a line")?;
        let mask = line.strip_prefix(field).context(line.to_owned())?.trim();
        ensure!(u64::from_str_radix(mask, 16)? & forbidden == 0, "{line}");
    }
    Ok(())
}

#[test]
fn a_program_without_tokio_is_said_to_be_one() -> Result<()> {
    take_machine!();
    let output = run(&["run", "--", "sh", "-c", "exit 0"])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        text.contains("does not use Tokio 1.21 or later") && !text.contains("looked at:"),
        "{text}"
    );
    Ok(())
}
