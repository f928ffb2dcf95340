//! One process: whether it can be observed, and how much can be told.

use std::{fs::File, path::Path, sync::Arc};

use super::check::Check;
use crate::{
    commands::survey::{Found, Survey},
    elf::{ElfError, Image},
    process::{self, Namespace, ProcessError, Status},
    runtime::{DebugInfoLevel, ImageFacts, RUNTIMES, RuntimeImage, detect},
};

pub(super) fn checks(pid: u32) -> Vec<Check> {
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

/// What one file holds.
type Images = Vec<Arc<dyn RuntimeImage>>;

fn files(pid: u32, found: &Found<Images>) -> Vec<Check> {
    let images = || found.images.iter().flat_map(|(_, images)| images);
    let mut checks: Vec<Check> = images().flat_map(|image| runtime(image.as_ref())).collect();
    checks.extend(images().filter_map(|image| unwinding(image.facts())));
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

fn no_tokio(found: &Found<Images>) -> Check {
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

fn unwinding(image: &ImageFacts) -> Option<Check> {
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

fn runtime(found: &dyn RuntimeImage) -> [Check; 2] {
    let image = found.facts();
    let versions = match image.versions.as_slice() {
        [] => "unknown version".to_owned(),
        versions => versions.join(", "),
    };
    let types: usize = image.sites.iter().map(|site| site.types.len()).sum();
    let sites = format!(
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
    [Check::good(found.runtime().name(), sites), names]
}

/// How much the file tells of names.
fn symbols(image: &ImageFacts) -> &'static str {
    match (image.stripped, image.debug_info) {
        (true, DebugInfoLevel::None) => "stripped",
        (false, DebugInfoLevel::None) => "symbols",
        (_, DebugInfoLevel::LineTables) => "line tables",
        (_, DebugInfoLevel::Limited | DebugInfoLevel::Full) => "debug info",
    }
}

fn whole(file: File, path: &Path) -> Result<Option<Images>, ElfError> {
    let found = detect(RUNTIMES, &Image::from_file(file, path)?, None);
    Ok(found.ok())
}
