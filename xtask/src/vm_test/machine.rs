//! The machine that QEMU plays.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::architecture::Architecture;

/// A guest needs about two minutes by emulation; many on a machine that does other things too.
const PATIENCE: Duration = Duration::from_mins(20);

/// One thread of the host's plays all processors in turn. With a thread for each, QEMU 7.2 lets one
/// execute what another has just replaced: kernels that patch their own code (each tracepoint that
/// is switched on does that) stopped with `int3`, one of them before its first program ran, or
/// stood still.
const ONE_AT_A_TIME: &str = "tcg,thread=single";

/// Where the kernel's messages go.
const CONSOLE: &str = "console.log";
/// Where the rest goes.
const OUTPUT: &str = "output.log";

/// Fails if QEMU is not there.
pub(super) fn check(architecture: Architecture) -> anyhow::Result<()> {
    let qemu = architecture.qemu();
    let version = Command::new(qemu)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    match version {
        Ok(status) if status.success() => Ok(()),
        _ => bail!(
            "{qemu} does not run; on Debian: sudo apt-get install {}",
            architecture.qemu_package()
        ),
    }
}

/// Boots a kernel with a file system and waits until it powers off. What the guest printed is in
/// `folder`: the kernel's messages in `console.log`, the rest in `output.log`, which this returns.
pub(super) fn run(
    architecture: Architecture,
    kernel: &Path,
    initramfs: &Path,
    folder: &Path,
    kvm: bool,
) -> anyhow::Result<String> {
    let (console, output) = (folder.join(CONSOLE), folder.join(OUTPUT));
    let mut command = Command::new("nice");
    command
        .arg(architecture.qemu())
        .args(["-machine", architecture.machine()])
        .args(if kvm {
            ["-accel", "kvm", "-cpu", "host"]
        } else {
            ["-accel", ONE_AT_A_TIME, "-cpu", architecture.processor()]
        })
        .args(["-smp", "2", "-m", "1536", "-nodefaults", "-no-reboot"])
        .args(["-display", "none"])
        .args(architecture.lines(&console, &output))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &command_line(architecture)])
        .stdin(Stdio::null());
    let guest = Guest(command.spawn().context("cannot run nice")?);
    let in_time = guest.wait()?;
    let text = said(folder)?;
    if !in_time {
        let last: Vec<&str> = text.lines().rev().take(3).collect();
        bail!(
            "the guest did not end within {PATIENCE:?}; its last lines, latest first: {last:?}; see {}",
            console.display()
        );
    }
    Ok(text)
}

/// What a guest printed into `folder`.
///
/// # Errors
/// If its kernel found a fault.
pub(super) fn said(folder: &Path) -> anyhow::Result<String> {
    let read = |name: &str| {
        let bytes = fs::read(folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    if let Some(fault) = fault(&read(CONSOLE)) {
        let console = folder.join(CONSOLE);
        bail!(
            "the kernel found a fault: {fault}; see {}",
            console.display()
        );
    }
    Ok(read(OUTPUT))
}

/// What the kernel is told: preempted wherever it can be, and ended by the first fault of its own.
fn command_line(architecture: Architecture) -> String {
    format!(
        "{} SCENARIOS={} loglevel=6 preempt=full oops=panic panic=-1",
        architecture.line_names(),
        architecture.scenarios().join(",")
    )
}

/// The first line with which a kernel says that something went wrong in it.
fn fault(console: &str) -> Option<&str> {
    const FAULTS: [&str; 5] = [
        "BUG: ",
        "Oops: ",
        "WARNING: ",
        "Kernel panic",
        "general protection fault",
    ];
    console
        .lines()
        .find(|line| FAULTS.iter().any(|fault| line.contains(fault)))
}

/// A running QEMU; killed by its process id when dropped.
struct Guest(Child);

impl Guest {
    /// Whether it ended in time.
    fn wait(mut self) -> anyhow::Result<bool> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait()? {
                if !status.success() {
                    bail!("QEMU ended with {status}");
                }
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(false)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_kernel_is_told_from_its_other_messages() {
        let boot =
            "[    0.0] Linux version 7.3.4\n[    2.4] Key type fscrypt-provisioning registered";
        assert_eq!(fault(boot), None);
        let oops = format!(
            "{boot}\n[   56.8] BUG: kernel NULL pointer dereference, address: 14\n[ 57.0] Oops: 0000"
        );
        assert!(fault(&oops).is_some_and(|line| line.contains("NULL pointer")));
    }
}
