//! The machine and this process, without the kernel's eBPF side.

use std::{fs, path::Path};

use super::check::Check;
use crate::{
    elf::Architecture,
    process::{
        capabilities::{self, Needed},
        perf_event_paranoid,
    },
};

pub(super) fn checks() -> Vec<Check> {
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
    match Architecture::HOST {
        Architecture::X86_64 => Check::good(NAME, finding),
        Architecture::Aarch64 => Check::note(
            NAME,
            format!(
                "{finding}; here `--mode watch` and `--mode auto` do not work, nor does `--lag`"
            ),
        ),
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
    let needed = capabilities::NEEDED.iter();
    let mut checks: Vec<Check> = needed.map(needed_capability).collect();
    checks.push(replaced_files());
    checks
}

fn needed_capability(needed: &Needed) -> Check {
    if needed.is_there() {
        Check::good(needed.name, needed.purpose)
    } else {
        Check::bad(
            needed.name,
            format!("missing: {}", needed.purpose),
            "run with sudo, or: sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep \"$(command -v loopprobe)\"",
        )
    }
}

fn replaced_files() -> Check {
    const NAME: &str = "replaced files";
    if capabilities::opens_replaced_files() {
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
    let level = perf_event_paranoid()?;
    let effect = match level {
        3.. => {
            "kernels of Debian and Ubuntu may refuse samples to all but root, see the sampler below"
        }
        _ => "does not matter with CAP_PERFMON",
    };
    Some(Check::note(
        "perf_event_paranoid",
        format!("{level}; {effect}"),
    ))
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
