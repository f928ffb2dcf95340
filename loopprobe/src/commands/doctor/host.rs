//! The machine and this process, without the kernel's eBPF side.

use std::{fs, path::Path};

use super::check::Check;
use crate::process::Status;

/// Capabilities by bit: `include/uapi/linux/capability.h` (Linux 6.18).
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;
const CHECKPOINT_RESTORE: u32 = 40;

pub fn checks() -> Vec<Check> {
    let mut checks = vec![machine(), type_information()];
    checks.extend(capabilities());
    checks.extend(
        [other_processes(), paranoid(), lockdown()]
            .into_iter()
            .flatten(),
    );
    checks
}

fn machine() -> Check {
    const NAME: &str = "machine";
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let finding = format!("{}, Linux {}", std::env::consts::ARCH, kernel.trim());
    if cfg!(target_arch = "x86_64") {
        Check::good(NAME, finding)
    } else {
        Check::bad(NAME, finding, "no command helps: only x86_64 is supported")
    }
}

fn type_information() -> Check {
    const NAME: &str = "kernel types (BTF)";
    const FILE: &str = "/sys/kernel/btf/vmlinux";
    match fs::File::open(FILE) {
        Ok(_) => Check::good(NAME, FILE),
        Err(error) if Path::new("/sys/kernel").is_dir() => Check::bad(
            NAME,
            format!("{FILE}: {error}"),
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of Debian 11, Ubuntu 20.10 and later are",
        ),
        Err(error) => Check::bad(
            NAME,
            format!("{FILE}: {error}"),
            "sudo mount -t sysfs sysfs /sys",
        ),
    }
}

fn capabilities() -> Vec<Check> {
    let effective = Status::read(std::process::id())
        .map(|status| status.capabilities)
        .unwrap_or(0);
    let has = |bit: u32| effective & (1 << bit) != 0;
    let needed = [
        (
            "CAP_BPF",
            has(BPF) || has(SYS_ADMIN),
            "loading eBPF programs",
        ),
        (
            "CAP_PERFMON",
            has(PERFMON) || has(SYS_ADMIN),
            "probes and samples",
        ),
        (
            "CAP_SYS_PTRACE",
            has(SYS_PTRACE),
            "reading processes of other users",
        ),
    ];
    let mut checks: Vec<Check> = needed
        .into_iter()
        .map(|(name, has, use_)| needed_capability(name, has, use_))
        .collect();
    checks.push(replaced_files(has(CHECKPOINT_RESTORE) || has(SYS_ADMIN)));
    checks
}

fn needed_capability(name: &'static str, has: bool, purpose: &str) -> Check {
    if has {
        Check::good(name, purpose)
    } else {
        Check::bad(
            name,
            format!("missing: {purpose}"),
            "run with sudo, or: sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep \"$(command -v loopprobe)\"",
        )
    }
}

fn replaced_files(reachable: bool) -> Check {
    const NAME: &str = "replaced files";
    if reachable {
        Check::good(
            NAME,
            "a program that was replaced while it runs can still be read",
        )
    } else {
        Check::advice(
            NAME,
            "a program that was replaced while it runs cannot be read",
            "run with sudo, or add cap_checkpoint_restore to the file's capabilities",
        )
    }
}

fn other_processes() -> Option<Check> {
    (!Path::new("/proc/1").exists()).then(|| {
        Check::advice(
            "processes of others",
            "/proc hides them (hidepid)",
            "run with sudo, or: sudo mount -o remount,hidepid=0 /proc",
        )
    })
}

fn paranoid() -> Option<Check> {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?;
    let finding = format!("{}; does not matter with CAP_PERFMON", level.trim());
    Some(Check::note("perf_event_paranoid", finding))
}

fn lockdown() -> Option<Check> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    modes.contains("[confidentiality]").then(|| {
        Check::bad(
            "kernel lockdown",
            "confidentiality: eBPF programs may not read memory",
            "boot with lockdown=integrity, or turn Secure Boot's confidentiality mode off",
        )
    })
}
