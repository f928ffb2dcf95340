//! Tasks that a library spawns for the program: a wrapper around what it was given is the same
//! async block for all of them, so they are named by what it wraps. Without symbols that is often
//! only likely.

use super::{Context, TaskName, location, readable::is_future_body, rust_path::split_top};
use crate::{
    code::{Wrapped, registry_crate},
    model::{NameSource, SourceLocation},
    runtime::tokio::vtable::RawVtable,
};

/// Names that nest deeper are not taken apart.
const MAX_DEPTH: usize = 32;

/// Names each type of an async function or block of a dependency's by the first one of the
/// program's own workspace that it polls.
pub(super) fn name_by_content(context: &Context<'_>, names: &mut [Option<TaskName>]) {
    let mut machines = context.machines.borrow_mut();
    let mut wrapped = |vtable: &RawVtable| {
        let is_async = vtable.scheduler_size().is_none_or(|size| size == 8);
        let look = || machines.wrapped(context.image, vtable.poll);
        is_async.then(look).flatten()
    };
    for (vtable, name) in context.vtables.iter().zip(names) {
        if let Some(name) = name.as_mut().filter(|name| name.certain)
            && let Some(wrapped) = wrapped(vtable)
        {
            *name = content(name, wrapped);
        }
    }
}

/// The name of what lies in the wrappers: as the type's generic arguments spell it, or its place.
fn content(name: &TaskName, wrapped: Wrapped) -> TaskName {
    let Wrapped {
        definition,
        wrappers,
    } = wrapped;
    let crates: Vec<String> = wrappers.iter().filter_map(crate_name).collect();
    let spelt = (name.source != NameSource::Location)
        .then(|| first_body(&name.type_name, &crates, 0))
        .flatten();
    match spelt {
        Some(body) => TaskName {
            type_name: body.to_owned(),
            location: Some(definition.location).filter(|_| definition.certain),
            ..name.clone()
        },
        // What symbols are certain of is not given up for what is only likely.
        None if name.source != NameSource::Location && !definition.certain => name.clone(),
        None => TaskName {
            scheduler: name.scheduler,
            ..location::from_definition(definition)
        },
    }
}

/// The crate of a definition as paths spell it: `pyo3_async_runtimes`.
fn crate_name(location: &SourceLocation) -> Option<String> {
    let folder = registry_crate(&location.file)?;
    let (name, _) = folder.rsplit_once('-')?;
    Some(name.replace('-', "_"))
}

/// The first body in the generic arguments of `type_name` that is of none of these crates.
fn first_body<'a>(type_name: &'a str, crates: &[String], depth: usize) -> Option<&'a str> {
    if depth > MAX_DEPTH {
        return None;
    }
    let segments = split_top(type_name, "::").into_iter();
    segments.flat_map(generic_arguments).find_map(|argument| {
        let is_content = is_future_body(argument) && !is_of(argument, crates);
        is_content
            .then_some(argument)
            .or_else(|| first_body(argument, crates, depth + 1))
    })
}

/// `T` and `U` of `name<T, U>` or `<T, U>`, but not what `<T as Trait>` says.
fn generic_arguments(segment: &str) -> Vec<&str> {
    let inside = segment
        .find('<')
        .and_then(|open| segment[open + 1..].strip_suffix('>'))
        .filter(|inside| split_top(inside, " as ").len() == 1);
    let arguments = inside.map_or_else(Vec::new, |inside| split_top(inside, ","));
    arguments.into_iter().map(str::trim).collect()
}

/// Whether a path begins in one of these crates.
fn is_of(path: &str, crates: &[String]) -> bool {
    let path = path.trim_start_matches(['<', '&', '(']);
    let first = path.split("::").next().unwrap_or_default();
    crates.iter().any(|name| name == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_body_of_another_crate_is_what_is_wrapped() {
        let crates = ["lib_a".to_owned(), "lib_b".to_owned()];
        for (type_name, expected) in [
            (
                "<lib_a::Rt as lib_a::Runtime>::spawn::<app::f::{closure#0}>::{closure#0}",
                Some("app::f::{closure#0}"),
            ),
            (
                "<lib_a::Rt as lib_a::Runtime>::spawn<lib_b::with<lib_a::Rt, <app::Svc as app::Go>::go::{{closure}}>::{{closure}}>::{{closure}}",
                Some("<app::Svc as app::Go>::go::{{closure}}"),
            ),
            (
                "lib_a::spawn::{async_block_env#0}<lib_b::Cancel<app::f::{async_fn_env#0}<u8>>>",
                Some("app::f::{async_fn_env#0}<u8>"),
            ),
            ("lib_a::spawn::<app::Hand>::{closure#0}", None),
            ("lib_a::tick::{closure#0}", None),
        ] {
            assert_eq!(first_body(type_name, &crates, 0), expected, "{type_name}");
        }
    }

    #[test]
    fn a_folder_says_the_crate() {
        let location = |file: &str| SourceLocation {
            file: file.into(),
            line: 1,
            column: None,
        };
        let name = crate_name(&location("/r/pyo3-async-runtimes-0.27.0/src/tokio.rs"));
        assert_eq!(name.as_deref(), Some("pyo3_async_runtimes"));
        assert_eq!(crate_name(&location("src/main.rs")), None);
    }
}
