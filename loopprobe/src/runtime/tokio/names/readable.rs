//! Names for people, from full type names.

use super::rust_path::{arguments, last_segment, split_top, without_arguments};
use crate::model::TaskKind;

/// Longer names say `<…>` in place of their generic arguments.
const MAX_NAME: usize = 120;
/// Types nest a dozen deep at most; this only stops hostile names.
const MAX_DEPTH: usize = 32;

/// A name for people from the full name of the future's (or closure's) type.
///
/// - An async fn reads as the function: `app::upload::{async_fn_env#0}` is `app::upload`.
/// - An async block reads as the function around it: `app::main::{async block}`.
/// - A closure on the blocking pool, likewise: `app::main::{closure}`.
/// - Tokio's own wrapper around blocking closures is dropped, other types keep short generic
///   arguments.
///
/// Symbols write `{closure#0}` for an async fn as for a block directly inside of a plain function.
/// Both read as the function, which is right for the one and the place of the other.
pub fn readable(type_name: &str, kind: TaskKind) -> String {
    let type_name = unwrap_blocking(type_name);
    let name = short(type_name, kind, 0);
    if name.chars().count() <= MAX_NAME {
        name
    } else {
        format!("{}<…>", truncate(without_arguments(&name)))
    }
}

/// The closure inside of `tokio::runtime::blocking::task::BlockingTask<...>`.
pub(super) fn unwrap_blocking(type_name: &str) -> &str {
    match without_arguments(type_name) {
        "tokio::runtime::blocking::task::BlockingTask" => {
            arguments(type_name).first().copied().unwrap_or(type_name)
        }
        _ => type_name,
    }
}

fn truncate(name: &str) -> &str {
    name.char_indices()
        .nth(MAX_NAME)
        .map_or(name, |(end, _)| &name[..end])
}

fn short(type_name: &str, kind: TaskKind, depth: usize) -> String {
    if depth > MAX_DEPTH {
        return "…".into();
    }
    if is_future_body(type_name) {
        body_name(&split_top(type_name, "::"), kind, depth)
    } else {
        plain_name(type_name, kind, depth)
    }
}

/// Whether a type is the body of a closure, async fn or async block, and nothing around it.
pub(super) fn is_future_body(type_name: &str) -> bool {
    let segments = split_top(type_name, "::");
    let mut names = segments.iter().rev().filter(|s| !s.starts_with('<'));
    names.next().is_some_and(|s| is_body(s))
}

/// Whether a path segment stands for the body of a closure, async fn or async block.
fn is_body(segment: &str) -> bool {
    ["{closure", "{async_", "{{closure", "{gen_"]
        .iter()
        .any(|start| segment.starts_with(start))
}

fn body_name(segments: &[&str], kind: TaskKind, depth: usize) -> String {
    // `f::{closure#0}::<T>` puts the arguments in a segment of their own.
    let parts: Vec<_> = segments
        .iter()
        .copied()
        .filter(|s| !s.starts_with('<') || s.contains(" as ") || is_self(s, segments))
        .collect();
    let bodies = parts.iter().rev().take_while(|s| is_body(s)).count();
    let base = parts
        .iter()
        .filter(|s| !is_body(s))
        .map(|s| base_segment(s, kind, depth))
        .collect::<Vec<_>>()
        .join("::");
    let last = parts.last().copied().unwrap_or_default();
    match () {
        () if last.starts_with("{async_fn") => base,
        () if last.starts_with("{async_block") => format!("{base}::{{async block}}"),
        () if last.starts_with("{async_closure") => format!("{base}::{{async closure}}"),
        () if kind == TaskKind::Blocking => format!("{base}::{{closure}}"),
        () if bodies > 1 || last.starts_with("{closure_env") => format!("{base}::{{async block}}"),
        () => base,
    }
}

/// Whether a segment in angle brackets is the self type of an inherent method, as in
/// `<app::Svc>::handle`.
fn is_self(segment: &str, segments: &[&str]) -> bool {
    segments
        .first()
        .is_some_and(|first| std::ptr::eq(*first, segment))
}

fn base_segment(segment: &str, kind: TaskKind, depth: usize) -> String {
    match segment.strip_prefix('<').and_then(|s| s.strip_suffix('>')) {
        Some(inner) => match split_top(inner, " as ")[..] {
            [own, of_trait] => format!(
                "<{} as {}>",
                short(own, kind, depth + 1),
                last_segment(of_trait)
            ),
            _ => without_arguments(inner).to_owned(),
        },
        None => without_arguments(segment).to_owned(),
    }
}

fn plain_name(type_name: &str, kind: TaskKind, depth: usize) -> String {
    let bare = type_name
        .strip_prefix('(')
        .and_then(|t| t.strip_suffix(')'))
        .unwrap_or(type_name);
    if bare.starts_with("dyn ") {
        return dyn_name(bare);
    }
    let base = without_arguments(type_name);
    let arguments = arguments(type_name);
    if arguments.is_empty() {
        return type_name.to_owned();
    }
    let path = if depth == 0 && !is_std_pointer(base) {
        base
    } else {
        last_segment(base)
    };
    let shown: Vec<_> = arguments
        .iter()
        .filter(|a| !a.ends_with("::Global"))
        .map(|a| argument_name(a, kind, depth))
        .collect();
    format!("{path}<{}>", shown.join(", "))
}

fn is_std_pointer(path: &str) -> bool {
    matches!(path, "core::pin::Pin" | "alloc::boxed::Box")
}

fn argument_name(argument: &str, kind: TaskKind, depth: usize) -> String {
    let name = short(argument, kind, depth + 1);
    let is_plain_path = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
    let is_body = split_top(argument, "::").iter().any(|s| is_body(s));
    if is_plain_path && !is_body {
        last_segment(&name).to_owned()
    } else {
        name
    }
}

/// `dyn Future` from `dyn core::future::future::Future<Output = ()> + core::marker::Send`; DWARF
/// puts parentheses around it, legacy symbols write `dyn core::future::future::Future+Output =
/// ()+core::marker::Send`.
fn dyn_name(type_name: &str) -> String {
    let first = split_top(type_name, "+")
        .first()
        .copied()
        .unwrap_or(type_name)
        .trim();
    let path = first.strip_prefix("dyn ").unwrap_or(first);
    format!("dyn {}", last_segment(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cases: &[(&str, &str)], kind: TaskKind) {
        for (full, expected) in cases {
            assert_eq!(readable(full, kind), *expected, "{full}");
        }
    }

    #[test]
    fn async_functions_read_as_functions() {
        check(
            &[
                ("app::upload::{async_fn_env#0}", "app::upload"),
                ("app::upload::{closure#0}", "app::upload"),
                ("app::upload::{{closure}}", "app::upload"),
                (
                    "app::worker::{async_fn_env#0}<alloc::string::String>",
                    "app::worker",
                ),
                (
                    "app::worker::<alloc::string::String>::{closure#0}",
                    "app::worker",
                ),
                (
                    "app::worker<alloc::string::String>::{{closure}}",
                    "app::worker",
                ),
                ("<app::Svc>::run::{closure#0}", "app::Svc::run"),
                ("<app::Svc<u8>>::run::{closure#0}", "app::Svc::run"),
                ("app::Svc::run::{{closure}}", "app::Svc::run"),
                (
                    "<app::Svc as app::jobs::Job>::go::{closure#0}",
                    "<app::Svc as Job>::go",
                ),
            ],
            TaskKind::Async,
        );
    }

    #[test]
    fn async_blocks_name_the_function_around_them() {
        check(
            &[
                ("app::main::{async_block_env#0}", "app::main::{async block}"),
                (
                    "app::main::{async_block#0}::{closure#1}::{async_block_env#2}",
                    "app::main::{async block}",
                ),
                (
                    "app::main::{closure#0}::{closure#3}",
                    "app::main::{async block}",
                ),
                (
                    "app::main::{{closure}}::{{closure}}",
                    "app::main::{async block}",
                ),
                (
                    "app::main::{closure#0}::inner::{closure#0}",
                    "app::main::inner",
                ),
            ],
            TaskKind::Async,
        );
    }

    #[test]
    fn blocking_closures_lose_their_wrapper() {
        check(
            &[
                (
                    "tokio::runtime::blocking::task::BlockingTask<app::f::{async_fn#0}::{closure_env#5}>",
                    "app::f::{closure}",
                ),
                (
                    "tokio::runtime::blocking::task::BlockingTask<app::job>",
                    "app::job",
                ),
                (
                    "tokio::runtime::blocking::task::BlockingTask<app::f::{closure#0}>",
                    "app::f::{closure}",
                ),
            ],
            TaskKind::Blocking,
        );
    }

    #[test]
    fn other_types_keep_short_arguments() {
        check(
            &[
                ("app::Manual", "app::Manual"),
                (
                    "tracing::Instrumented<app::upload::{closure#0}>",
                    "tracing::Instrumented<app::upload>",
                ),
                (
                    "core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output = ()> + core::marker::Send, \
                     alloc::alloc::Global>>",
                    "Pin<Box<dyn Future>>",
                ),
                (
                    "a::Map<b::C<d::E>, app::f::{closure#0}::{closure#1}>",
                    "a::Map<C<E>, app::f::{async block}>",
                ),
            ],
            TaskKind::Async,
        );
    }

    #[test]
    fn hostile_names_stay_short() {
        let deep = "a<".repeat(10_000);
        readable(&deep, TaskKind::Async);
        let deep = format!("{}x{}", "a::b<".repeat(5000), ">".repeat(5000));
        assert!(readable(&deep, TaskKind::Async).chars().count() < 200);
        assert!(readable(&"::".repeat(9000), TaskKind::Async).len() < 40_000);
    }
}
