//! Name and place of a task type must agree, and the place wins.
//!
//! The place is where the panic location of the outermost async function or block says that it is
//! defined. No folding of functions changes it, since it is a part of their code. A name from
//! symbols or debug information can be another function's that was folded with this one. So a name
//! that does not fit the places is not certain.

use std::collections::{HashMap, HashSet};

use super::{
    Context, TaskName, location,
    readable::unwrap_blocking,
    rust_path::{arguments, without_arguments},
};
use crate::{
    code::Definition,
    model::{NameSource, SourceLocation},
};

/// Calls each type by its place whose certain name does not fit it.
pub(super) fn hold(context: &Context<'_>, names: &mut [Option<TaskName>]) {
    let place = |poll| {
        let location = context.definition(poll)?;
        let certain = true;
        Some(location::from_definition(Definition { location, certain })).filter(|n| n.certain)
    };
    let vtables = context.vtables.iter().zip(&*names);
    let places: Vec<_> = vtables
        .map(|(vtable, name)| {
            let body = name.as_ref().filter(|name| is_named(name)).and_then(body)?;
            Some((body.to_owned(), place(vtable.poll)?))
        })
        .collect();
    let torn = torn(places.iter().flatten());
    for (name, place) in names.iter_mut().zip(&places) {
        let (Some(name), Some((body, place))) = (name, place) else {
            continue;
        };
        let told = name.location.as_ref().zip(place.location.as_ref());
        let is_elsewhere = told.is_some_and(|(told, place)| !fits(context, told, place));
        if is_elsewhere || torn.contains(body.as_str()) {
            let scheduler = name.scheduler;
            *name = TaskName {
                scheduler,
                ..place.clone()
            };
        }
    }
}

fn is_named(name: &TaskName) -> bool {
    name.certain && name.others.is_empty() && name.source != NameSource::Location
}

/// The async function or block that a type is, or that its wrappers of one argument wrap.
fn body(name: &TaskName) -> Option<&str> {
    let mut type_name = unwrap_blocking(&name.type_name);
    loop {
        let path = without_arguments(type_name);
        if path.ends_with('}') {
            return Some(type_name);
        }
        let [inner] = arguments(type_name)[..] else {
            return None;
        };
        type_name = inner;
    }
}

/// The bodies that would be in two places.
fn torn<'a>(named: impl Iterator<Item = &'a (String, TaskName)>) -> HashSet<&'a str> {
    let mut places: HashMap<&str, HashSet<_>> = HashMap::new();
    for (body, place) in named {
        places.entry(body).or_default().insert(&place.location);
    }
    let torn = places.into_iter().filter(|(_, places)| places.len() > 1);
    torn.map(|(body, _)| body).collect()
}

/// Whether debug information and a panic location can mean the same definition: the one tells where
/// the signature begins, the other where the body does, and no other definition begins in between.
fn fits(context: &Context<'_>, told: &SourceLocation, place: &SourceLocation) -> bool {
    let last = |location: &SourceLocation| location.file.rsplit('/').next().map(str::to_owned);
    let between = told.line + 1..=place.line;
    last(told) == last(place)
        && told.line <= place.line
        && !context.debug.has_definition(&told.file, between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(type_name: &str, line: u32) -> TaskName {
        TaskName {
            type_name: type_name.into(),
            others: Vec::new(),
            source: NameSource::Calls,
            certain: true,
            scheduler: None,
            location: Some(SourceLocation {
                file: "src/main.rs".into(),
                line,
                column: Some(1),
            }),
        }
    }

    #[test]
    fn the_body_of_a_wrapped_future_is_found() {
        let body_of = |type_name| body(&named(type_name, 1)).map(str::to_owned);
        assert_eq!(
            body_of("app::Timed<tokio::time::timeout::Timeout<app::f::{{closure}}>>").as_deref(),
            Some("app::f::{{closure}}")
        );
        assert_eq!(
            body_of("app::f<u8>::{closure#0}").as_deref(),
            Some("app::f<u8>::{closure#0}")
        );
        assert_eq!(body_of("app::Map<app::A, app::f::{closure#0}>"), None);
        assert_eq!(body_of("app::Manual"), None);
    }

    #[test]
    fn a_body_in_two_places_is_torn() {
        let place = |body: &str, line| (body.to_owned(), named("", line));
        let places = [
            place("a", 1),
            place("a", 1),
            place("b", 1),
            place("c", 2),
            place("c", 3),
        ];
        assert_eq!(torn(places.iter()), HashSet::from(["c"]));
    }
}
