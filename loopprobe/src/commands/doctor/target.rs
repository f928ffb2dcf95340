//! One process: whether it can be observed, and how much can be told.

use std::{fs::File, path::Path};

use super::check::Check;
use crate::{
    commands::survey::{Found, Survey},
    elf::{ElfError, Image},
    process::{self, Namespace, ProcessError, Status},
    runtime::tokio::{DebugInfoLevel, TokioImage, discover},
};

pub fn checks(pid: u32) -> Vec<Check> {
    let mut checks = vec![program(pid)];
    checks.extend(
        Status::read(pid)
            .map(|status| situation(&status))
            .unwrap_or_default(),
    );
    checks.extend(namespaces(pid));
    match Survey::new(whole).process(pid) {
        Ok(found) => {
            checks.extend(files(pid, &found));
            checks.extend([memory(pid), descriptors(pid)].into_iter().flatten());
        }
        Err(error) => checks.push(unreadable("memory map", &error)),
    }
    checks
}

fn program(pid: u32) -> Check {
    const NAME: &str = "program";
    match process::program(pid) {
        Ok(path) => Check::good(NAME, path.display().to_string()),
        Err(error) => unreadable(NAME, &error),
    }
}

fn unreadable(name: &'static str, error: &ProcessError) -> Check {
    let mend = match error {
        ProcessError::Denied { .. } => process::how_to_read(),
        _ => "is it still running? `loopprobe ps` lists the processes that use Tokio",
    };
    Check::bad(name, error.to_string(), mend)
}

fn situation(status: &Status) -> Vec<Check> {
    let mut checks = vec![Check::good(
        "process",
        format!("user {}, {} threads", status.uid, status.threads),
    )];
    if status.tracer != 0 {
        checks.push(Check::note(
            "debugger",
            format!(
                "process {} traces it: polls that it stops are long",
                status.tracer
            ),
        ));
    }
    if status.seccomp != 0 {
        checks.push(Check::note(
            "seccomp",
            "its system calls are filtered; on x86_64 return probes need none of them",
        ));
    }
    checks
}

fn namespaces(pid: u32) -> Vec<Check> {
    let all = [
        (
            Namespace::Pid,
            "pid namespace",
            "its own; ids are shown as /proc shows them here",
        ),
        (
            Namespace::Mount,
            "mount namespace",
            "its own; its files are read below /proc/PID/root",
        ),
    ];
    all.into_iter()
        .filter(|(namespace, ..)| namespace.differs(pid).unwrap_or(false))
        .map(|(_, name, finding)| Check::note(name, finding))
        .collect()
}

fn files(pid: u32, found: &Found<TokioImage>) -> Vec<Check> {
    let images = || found.images.iter().map(|(_, image)| image);
    let mut checks: Vec<Check> = images().flat_map(tokio).collect();
    checks.extend(images().filter_map(unwinding));
    if found.images.is_empty() {
        checks.push(no_tokio(found));
    }
    checks.extend(found.unreadable.iter().map(|(path, reason)| {
        Check::advice(
            "file",
            format!("{} was not read: {reason}", path.display()),
            format!("loopprobe inspect --pid {pid}"),
        )
    }));
    checks
}

fn no_tokio(found: &Found<TokioImage>) -> Check {
    const NAME: &str = "Tokio";
    let (unread, files) = (found.unreadable.len(), found.files);
    if unread > 0 {
        return Check::bad(
            NAME,
            format!("in none of the mapped files that were read, but {unread} of {files} were not"),
            "run with sudo; below is why they were not read",
        );
    }
    Check::bad(
        NAME,
        format!("none of the {files} mapped files holds it"),
        "`loopprobe ps` lists the processes that use Tokio 1.21 or later",
    )
}

/// Sessions do without.
fn memory(pid: u32) -> Option<Check> {
    (!process::can_read_memory(pid)).then(|| {
        Check::advice(
            "memory",
            "cannot be read: boxed futures, paths and the holders of locks are not named",
            "run with sudo, or give loopprobe CAP_SYS_PTRACE",
        )
    })
}

/// Sessions do without.
fn descriptors(pid: u32) -> Option<Check> {
    (!process::can_read_descriptors(pid)).then(|| {
        Check::advice(
            "descriptors",
            "cannot be read: the files and peers of most system calls are not named",
            "run with sudo, or add cap_dac_read_search to the file's capabilities",
        )
    })
}

/// Less of the code is described by `.eh_frame` only where it was left out.
const LITTLE: f64 = 0.5;

fn unwinding(image: &TokioImage) -> Option<Check> {
    let share = image.eh_frame.covered as f64 / image.eh_frame.total.max(1) as f64;
    (share < LITTLE).then(|| {
        Check::advice(
            "stacks",
            format!(
                "no unwind information in {}: polls that were stuck before cannot be found, stacks may be cut, unless its \
                 code keeps frame pointers",
                image.path.display()
            ),
            "build it with -C force-unwind-tables=yes or -C force-frame-pointers=yes",
        )
    })
}

fn tokio(image: &TokioImage) -> [Check; 2] {
    let versions = match image.tokio.as_slice() {
        [] => "unknown version".to_owned(),
        versions => versions.join(", "),
    };
    let types: usize = image.sites.iter().map(|site| site.vtables.len()).sum();
    let found = format!(
        "{versions} in {}: {} poll sites, {types} task types",
        image.path.display(),
        image.sites.len()
    );
    let names = match symbols(image) {
        "stripped" => Check::advice(
            "names",
            "stripped: async functions are named by file and line, other frames by address",
            "give its debug file with --debug-file, or keep symbols (strip = \"debuginfo\" in Cargo.toml)",
        ),
        level => Check::good("names", level),
    };
    [Check::good("Tokio", found), names]
}

/// How much the file tells of names.
fn symbols(image: &TokioImage) -> &'static str {
    match (image.stripped, image.debug_info) {
        (true, DebugInfoLevel::None) => "stripped",
        (false, DebugInfoLevel::None) => "symbols",
        (_, DebugInfoLevel::LineTables) => "line tables",
        (_, DebugInfoLevel::Limited | DebugInfoLevel::Full) => "debug info",
    }
}

fn whole(file: File, path: &Path) -> Result<Option<TokioImage>, ElfError> {
    Ok(discover(&Image::from_file(file, path)?).ok())
}
