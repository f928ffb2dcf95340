//! The model's enums in words.

use crate::model::{Cause, SourceLocation, StackKind, TaskType};

/// A cause as a person would say it.
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Cpu => "computing",
        Cause::Sleep => "sleep",
        Cause::FileIo => "file I/O",
        Cause::Fsync => "fsync",
        Cause::Network => "network I/O",
        Cause::Dns => "name lookup",
        Cause::Lock => "lock",
        Cause::Child => "child process",
        Cause::PageFault => "page faults",
        Cause::Preempted => "preempted",
        Cause::Throttled => "throttled by the control group",
        Cause::NestedBlockOn => "nested block_on",
        Cause::Unknown => "unknown cause",
    }
}

/// What a thread was doing.
pub fn stack_kind(kind: StackKind) -> &'static str {
    match kind {
        StackKind::OnCpu => "on CPU",
        StackKind::Blocked => "blocked",
        StackKind::Runnable => "waiting for a CPU",
    }
}

/// A task type's name; one that is only likely says so.
pub fn task_name(task: &TaskType) -> String {
    let name = super::clean(&task.name);
    if task.certain {
        name.into_owned()
    } else {
        format!("{name} (likely)")
    }
}

/// A place in the source, without the folders that say only where a dependency was unpacked:
/// `axum-0.8.9/src/serve/mod.rs:389`.
pub fn place(location: &SourceLocation) -> String {
    let file = short_path(&location.file);
    super::clean(&format!("{file}:{}", location.line)).into_owned()
}

fn short_path(file: &str) -> &str {
    // cargo: .../registry/src/INDEX/CRATE-VERSION/...; the standard library: /rustc/HASH/library/...
    let dependency = file
        .split_once("/registry/src/")
        .and_then(|(_, rest)| rest.split_once('/'));
    let library = || {
        file.strip_prefix("/rustc/")
            .and_then(|rest| rest.split_once('/'))
    };
    dependency.or_else(library).map_or(file, |(_, kept)| kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_the_crate_and_not_where_it_was_unpacked() {
        for (file, short) in [
            (
                "/home/u/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/axum-0.8.9/src/lib.rs",
                "axum-0.8.9/src/lib.rs",
            ),
            (
                "/rustc/59807616e1fa/library/std/src/io/mod.rs",
                "library/std/src/io/mod.rs",
            ),
            ("src/main.rs", "src/main.rs"),
            ("/rustc/", "/rustc/"),
        ] {
            assert_eq!(short_path(file), short);
        }
    }
}
