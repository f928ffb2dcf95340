//! Whose code a frame is: the one place where that is decided.

mod known;
mod origins;

use std::path::Path;

pub(crate) use self::origins::Origins;
pub(super) use self::origins::holds_v8;
use self::{
    known::{C_PREFIXES, CRATES, LIBRARIES},
    origins::crate_name,
};
use super::c_names::is_c_name;
use crate::{
    code::registry_crate,
    elf::VirtAddr,
    model::{Frame, Role, SourceLocation},
    runtime::{Plumbing, Runtimes},
};

/// Whose code a frame is. What its code merely refers to (`near`) is a hint, and decides nothing.
pub(crate) fn role(
    frame: &Frame,
    address: VirtAddr,
    origins: &Origins,
    runtimes: Runtimes,
) -> Role {
    let library = frame.module.as_deref().and_then(library_role);
    if let Some(role) = library {
        return role;
    }
    match (&frame.function, &frame.location, &frame.definition) {
        (Some(name), location, _) => named(name, location.as_ref(), origins, runtimes),
        (None, ..) if frame.frees => Role::Allocator,
        (None, _, Some(definition)) => located(definition, runtimes),
        (None, ..) if origins.std_from.is_some_and(|from| address >= from) => Role::Std,
        (None, ..) => Role::Unknown,
    }
}

/// Whether a module is one of the system's libraries, by the name of its file.
pub(crate) fn is_system_library(path: &str) -> bool {
    library_role(path) == Some(Role::C)
}

fn library_role(path: &str) -> Option<Role> {
    // Where CPython keeps the parts of its standard library that are written in C.
    if path.contains("/lib-dynload/") {
        return Some(Role::CPython);
    }
    let name = Path::new(path).file_name()?.to_str()?;
    LIBRARIES
        .iter()
        .find(|(library, _)| name.starts_with(library) && (*library != "node" || name == "node"))
        .map(|(_, role)| *role)
}

fn named(
    name: &str,
    location: Option<&SourceLocation>,
    origins: &Origins,
    runtimes: Runtimes,
) -> Role {
    let Some(owner) = owner(name) else {
        return c_role(name, runtimes);
    };
    // What the compiler makes itself: how code comes to the allocator, and to the panic handler.
    if let Some(made) = name.strip_prefix("__rustc::") {
        return prefixed(made).unwrap_or(Role::Std);
    }
    if let Some(role) = crate_role(owner, runtimes) {
        return role;
    }
    if matches!(owner, "v8" | "node") {
        return Role::V8;
    }
    match location.map(|location| located(location, runtimes)) {
        // Macros and inlined code bring in locations of others; those of a registry say whose they
        // are all the same.
        Some(role @ (Role::Own | Role::Dependency)) => role,
        _ if origins.dependencies.contains(owner) => Role::Dependency,
        _ if origins.own.is_empty() || origins.own.contains(owner) => Role::Own,
        // It may be one of the workspace that refers to no source file, as only code without checks
        // does.
        _ => Role::Dependency,
    }
}

fn crate_role(krate: &str, runtimes: Runtimes) -> Option<Role> {
    if Plumbing::owns_crate(runtimes, krate) {
        return Some(Role::Runtime);
    }
    CRATES
        .iter()
        .find(|(crates, _)| crates.contains(&krate))
        .map(|(_, role)| *role)
}

/// A function of C: one that the C library exports, one of a known library, or somebody's.
fn c_role(name: &str, runtimes: Runtimes) -> Role {
    if Plumbing::owns_function(runtimes, name) {
        return Role::Runtime;
    }
    if name.starts_with("__rustc") {
        return Role::Std;
    }
    prefixed(name).unwrap_or(if is_c_name(name) {
        Role::C
    } else {
        Role::Dependency
    })
}

fn prefixed(name: &str) -> Option<Role> {
    let mut known = C_PREFIXES.iter();
    let found = known.find(|(prefix, _)| name.starts_with(prefix));
    found.map(|(_, role)| *role)
}

/// By a source file: relative paths are the workspace's own, folders with a version come from a
/// registry.
pub(crate) fn located(location: &SourceLocation, runtimes: Runtimes) -> Role {
    if location.file.starts_with("/rust/deps/") {
        return Role::Std;
    }
    match registry_crate(&location.file) {
        Some("std") => Role::Std,
        Some(krate) => crate_role(&crate_name(krate), runtimes).unwrap_or(Role::Dependency),
        None if location.file.contains("git/checkouts/") => Role::Dependency,
        None => Role::Own,
    }
}

/// Gives the frames of one stack what their neighbours tell: what an allocator calls is the
/// allocator's, and code of no file, where V8 is on the stack, is what V8 has made.
pub(crate) fn settle(frames: &mut [Frame], holds_v8: bool) {
    if holds_v8 {
        let is_made = |frame: &&mut Frame| frame.role == Role::Unknown && frame.module.is_none();
        for frame in frames.iter_mut().filter(is_made) {
            frame.role = Role::V8;
            frame.runtime = true;
        }
    }
    let Some(outermost) = frames
        .iter()
        .rposition(|frame| frame.role == Role::Allocator)
    else {
        return;
    };
    for frame in &mut frames[..outermost] {
        let is_c = frame
            .function
            .as_deref()
            .is_none_or(|name| owner(name).is_none());
        if is_c && matches!(frame.role, Role::Dependency | Role::Unknown) {
            frame.role = Role::Allocator;
            frame.runtime = true;
        }
    }
}

/// The crate that a function belongs to: of `<T as Trait>::f` the type's, and the trait's where the
/// type is built in or a parameter. `None` for a name without a path.
pub(super) fn owner(name: &str) -> Option<&str> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{elf::Image, runtime::RUNTIMES};

    fn named(name: &str) -> Role {
        let origins = Origins {
            dependencies: ["hyper", "rayon_core"].map(str::to_owned).into(),
            ..Origins::default()
        };
        role(
            &Frame {
                function: Some(name.to_owned()),
                module: Some("/opt/api".to_owned()),
                ..Frame::default()
            },
            VirtAddr(0),
            &origins,
            RUNTIMES,
        )
    }

    #[test]
    fn names_tell_whose_code_it_is() {
        for (name, expected) in [
            ("tokio::runtime::task::raw::poll", Role::Runtime),
            ("crossbeam_deque::Stealer::steal", Role::Runtime),
            ("std::thread::sleep", Role::Std),
            (
                "<core::pin::Pin as core::future::future::Future>::poll",
                Role::Std,
            ),
            ("<&mut F as core::future::future::Future>::poll", Role::Std),
            ("<std::fs::File as std::io::Read>::read", Role::Std),
            ("__rust_try", Role::C),
            ("main", Role::C),
            ("clock_nanosleep", Role::C),
            ("__syscall_cp_c", Role::C),
            ("_rjem_je_arena_dalloc", Role::Allocator),
            ("_mi_free_block", Role::Allocator),
            ("__rustc::__rust_dealloc", Role::Allocator),
            ("__rustc::__rdl_alloc", Role::Allocator),
            ("__rustc::rust_begin_unwind", Role::Std),
            ("tracing_subscriber::fmt::format", Role::Logging),
            ("_PyEval_EvalFrameDefault", Role::CPython),
            ("Builtins_InterpreterEntryTrampoline", Role::V8),
            ("v8::internal::Execution::Call", Role::V8),
            ("hyper::proto::h1::dispatch::poll", Role::Dependency),
            ("sqlite3_step", Role::Dependency),
            ("api::upload::store", Role::Own),
            ("<api::Conn as std::io::Read>::read", Role::Own),
        ] {
            assert_eq!(named(name), expected, "{name}");
        }
    }

    #[test]
    fn a_crate_that_refers_to_no_source_of_the_program_is_not_its_own() {
        let mut origins = Origins {
            dependencies: ["hyper".to_owned()].into(),
            ..Origins::default()
        };
        assert_eq!(
            super::named("zstd::encode_all", None, &origins, RUNTIMES),
            Role::Own
        );
        // The program's own code is inlined into some of theirs.
        origins.own = ["api", "hyper", "std"].map(str::to_owned).into();
        for (name, expected) in [
            ("zstd::encode_all", Role::Dependency),
            ("api::x", Role::Own),
        ] {
            assert_eq!(
                super::named(name, None, &origins, RUNTIMES),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn code_of_no_file_is_javascript_only_where_v8_is_on_the_stack() {
        for (holds_v8, expected) in [(false, Role::Unknown), (true, Role::V8)] {
            let mut frames = [Frame::default()];
            settle(&mut frames, holds_v8);
            assert_eq!(frames[0].role, expected);
        }
    }

    #[test]
    fn a_file_that_holds_v8_is_known_by_the_names_in_it() {
        let mut bytes = std::fs::read("/proc/self/exe").expect("this program");
        let image = |bytes: &[u8]| Image::parse(Path::new("app"), bytes.to_vec()).expect("ELF");
        let (before, text) = (
            image(&bytes),
            b"a text that nothing else of this program contains",
        );
        assert!(!holds_v8(&before));
        let at = memchr::memmem::find(&bytes, std::hint::black_box(&text[..])).expect("the text");
        let name = ["\0Interpreter", "Entry", "Trampoline\0"].concat();
        bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
        assert!(holds_v8(&image(&bytes)));
    }

    #[test]
    fn frames_without_a_name_are_judged_by_module_and_definition_not_by_hints() {
        let place = |file: &str| {
            Some(SourceLocation {
                file: file.to_owned(),
                line: 1,
                column: None,
            })
        };
        let of = |module: &str, definition: Option<&str>, near: Option<&str>| {
            let frame = Frame {
                module: Some(module.to_owned()),
                definition: definition.and_then(place),
                near: near.and_then(place),
                ..Frame::default()
            };
            role(&frame, VirtAddr(0), &Origins::default(), RUNTIMES)
        };
        assert_eq!(of("/lib/libc.so.6", None, None), Role::C);
        assert_eq!(
            of("/usr/lib/libpython3.11.so.1.0", None, None),
            Role::CPython
        );
        let part = "/usr/lib/python3.11/lib-dynload/_hashlib.cpython-311-x86_64-linux-gnu.so";
        assert_eq!(of(part, None, None), Role::CPython);
        assert_eq!(of("/opt/libcool.so", None, None), Role::Unknown);
        let api = "/opt/api";
        let freeing = Frame {
            module: Some(api.to_owned()),
            frees: true,
            ..Frame::default()
        };
        let origins = Origins::default();
        let found = role(&freeing, VirtAddr(0), &origins, RUNTIMES);
        assert_eq!(found, Role::Allocator);
        assert_eq!(
            of(api, Some("/r/tokio-1.44.2/src/a.rs"), None),
            Role::Runtime
        );
        assert_eq!(
            of(api, Some("/r/tokio-postgres-0.7.1/src/a.rs"), None),
            Role::Dependency
        );
        assert_eq!(of(api, Some("src/a.rs"), None), Role::Own);
        assert_eq!(
            of(api, None, Some("/r/tokio-1.44.2/src/a.rs")),
            Role::Unknown
        );
        assert_eq!(
            of(api, None, Some("/rustc/abc/library/std/src/fs.rs")),
            Role::Unknown
        );
    }

    #[test]
    fn what_an_allocator_calls_is_the_allocators() {
        let frame = |name: &str, role| Frame {
            function: Some(name.to_owned()),
            role,
            ..Frame::default()
        };
        let mut frames = [
            frame("arena_bin_lower_slab", Role::Dependency),
            Frame::default(),
            frame("_rjem_sdallocx", Role::Allocator),
            frame("sqlite3_free", Role::Dependency),
        ];
        settle(&mut frames, false);
        let roles: Vec<Role> = frames.iter().map(|frame| frame.role).collect();
        assert_eq!(
            roles,
            [
                Role::Allocator,
                Role::Allocator,
                Role::Allocator,
                Role::Dependency
            ]
        );
    }
}
