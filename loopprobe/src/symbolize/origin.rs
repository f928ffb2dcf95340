use std::path::Path;

use crate::model::Frame;

/// Crates whose functions carry tasks from poll to poll and do nothing of their own.
const PLUMBING: &[&str] = &[
    "std",
    "core",
    "alloc",
    "tokio",
    "tokio_util",
    "tokio_stream",
    "mio",
    "futures",
    "futures_core",
    "futures_util",
    "futures_task",
    "futures_channel",
    "futures_executor",
    "pin_project",
    "pin_project_lite",
    "tracing",
    "tower",
    "tower_service",
    "tower_layer",
    "parking_lot",
    "parking_lot_core",
    "lock_api",
    "libc",
    "panic_unwind",
    "compiler_builtins",
];

/// Libraries of the system, by the beginning of the file name.
const LIBRARIES: &[&str] = &[
    "libc.",
    "libc-",
    "libpthread",
    "libm.",
    "libdl",
    "librt",
    "libresolv",
    "libnss_",
    "libgcc_s",
    "ld-linux",
    "ld-musl",
    "linux-vdso",
    "[vdso]",
];

/// Where the runtime's and the standard library's sources lie, as compilers record it.
const SOURCES: &[&str] = &[
    "/rustc/",
    "/library/std/",
    "/library/core/",
    "/library/alloc/",
];

/// Functions of the C start-up code, and of a C library that is linked statically.
const C_FUNCTIONS: &[&str] = &[
    "main",
    "_start",
    "__libc_start_main",
    "__libc_start_call_main",
    "clone",
    "__clone",
    "start",
    "start_thread",
    "syscall",
    "__syscall_cp",
    "__syscall_cp_asm",
    "__syscall_cp_c",
    "__cp_end",
    "read",
    "write",
    "poll",
    "nanosleep",
    "clock_nanosleep",
    "__clock_nanosleep",
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "malloc",
    "free",
    "realloc",
    "calloc",
    "__timedwait",
    "__timedwait_cp",
    "__wait",
    "getaddrinfo",
    "__rust_alloc",
    "__rust_dealloc",
    "__rust_realloc",
    "rust_eh_personality",
    "__rust_try",
];

/// Whether a frame belongs to the runtime's, the standard library's or the system's plumbing.
pub(crate) fn is_plumbing(frame: &Frame) -> bool {
    if frame.module.as_deref().is_some_and(is_system_library) {
        return true;
    }
    match &frame.function {
        Some(name) => is_plumbing_name(name),
        None => [&frame.definition, &frame.near]
            .into_iter()
            .flatten()
            .next()
            .is_some_and(|location| is_plumbing_source(&location.file)),
    }
}

/// Whether a module is one of the system's libraries, by the name of its file.
pub(crate) fn is_system_library(path: &str) -> bool {
    Path::new(path)
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| LIBRARIES.iter().any(|library| name.starts_with(library)))
}

fn is_plumbing_name(name: &str) -> bool {
    match owner(name) {
        Some(owner) => PLUMBING.contains(&owner),
        None => C_FUNCTIONS.contains(&name) || name.starts_with("__rustc"),
    }
}

/// The crate that a function belongs to: of `<T as Trait>::f` the type's, and the trait's where the type is built in or
/// a parameter. `None` for a name without a path.
fn owner(name: &str) -> Option<&str> {
    if let Some(inner) = name.strip_prefix('<') {
        let end = inner.rfind('>').unwrap_or(inner.len());
        let inner = &inner[..end];
        let (subject, rest) = match inner.split_once(" as ") {
            Some((subject, implemented)) => (subject, Some(implemented)),
            None => (inner, None),
        };
        let subject = subject
            .trim_start_matches(['&', '*', '<', '(', '['])
            .trim_start_matches("mut ")
            .trim_start_matches("const ")
            .trim_start_matches("dyn ")
            .trim_start_matches("impl ");
        return krate(subject)
            .or_else(|| rest.and_then(krate))
            .or(Some("core"));
    }
    krate(name)
}

/// The first component of a path that has several.
fn krate(path: &str) -> Option<&str> {
    let (first, _) = path.split_once("::")?;
    let plain = first
        .chars()
        .all(|character| character.is_alphanumeric() || character == '_');
    plain.then_some(first)
}

/// Whether a source file is one of the standard library or of a plumbing crate: `.../tokio-1.44.2/src/...`.
fn is_plumbing_source(file: &str) -> bool {
    SOURCES.iter().any(|source| file.contains(source))
        || file.split('/').any(|folder| {
            folder
                .rsplit_once('-')
                .filter(|(_, version)| version.starts_with(|first: char| first.is_ascii_digit()))
                .is_some_and(|(name, _)| PLUMBING.contains(&name.replace('-', "_").as_str()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SourceLocation;

    fn named(name: &str) -> bool {
        is_plumbing(&Frame {
            function: Some(name.to_owned()),
            module: Some("/opt/api".to_owned()),
            ..Frame::default()
        })
    }

    #[test]
    fn plumbing_is_told_from_code_that_a_user_can_change() {
        for name in [
            "tokio::runtime::task::raw::poll",
            "std::thread::sleep",
            "<core::pin::Pin as core::future::future::Future>::poll",
            "<alloc::boxed::Box as core::ops::function::FnOnce>::call_once",
            "<&mut F as core::future::future::Future>::poll",
            "<F as core::future::into_future::IntoFuture>::into_future",
            "<std::fs::File as std::io::Read>::read",
            "__rust_try",
            "main",
        ] {
            assert!(named(name), "{name}");
        }
        for name in [
            "api::upload::store",
            "<api::Conn as std::io::Read>::read",
            "<api::Conn>::send",
            "hyper::proto::h1::dispatch::poll",
            "tokio_postgres::query",
            "sqlite3_step",
        ] {
            assert!(!named(name), "{name}");
        }
    }

    #[test]
    fn frames_without_a_name_are_judged_by_module_and_source() {
        let frame = |module: &str, near: Option<&str>| Frame {
            module: Some(module.to_owned()),
            near: near.map(|file| SourceLocation {
                file: file.to_owned(),
                line: 1,
                column: None,
            }),
            ..Frame::default()
        };
        assert!(is_plumbing(&frame("/lib/x86_64-linux-gnu/libc.so.6", None)));
        assert!(is_plumbing(&frame(
            "/opt/api",
            Some("/r/tokio-1.44.2/src/a.rs")
        )));
        assert!(is_plumbing(&frame(
            "/opt/api",
            Some("/rustc/abc/library/std/src/fs.rs")
        )));
        assert!(!is_plumbing(&frame(
            "/opt/api",
            Some("/r/tokio-postgres-0.7.1/src/a.rs")
        )));
        assert!(!is_plumbing(&frame("/opt/api", None)));
        assert!(!is_plumbing(&frame("/opt/libcool.so", None)));
    }
}
