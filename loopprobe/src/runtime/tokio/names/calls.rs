//! Names from legacy symbols: `raw::poll`'s own symbol hides its types there, but the functions
//! that it leads to do not.
//!
//! Two kinds of evidence, and neither is a proof alone. Drop glue keeps the whole type in its name
//! (`drop_in_place<Stage<F>>`), but glue is often the same code for many types, and then one name
//! of several survives, or all of them do. A body that the poll chain calls names a future, but of
//! a generic one (`<app::Timed<F> as Future>::poll`) only the wrapper; and where the task's own was
//! inlined, it is one that the task awaits.
//!
//! What proves a name:
//!
//! - of an async function or block: its body embeds its definition, so no other function has the
//!   same code. If the poll chain calls one that has the definition of the task itself, that is the
//!   task, or what its wrapper wraps;
//! - of a wrapper around it, and of a future written by hand: the poll function and the drop glue
//!   name it, each with one voice, and no other task of the scheduler leads to the same functions.

use std::collections::{BTreeSet, HashSet};

use super::{
    Context, TaskName,
    evidence::{self, Body, Evidence},
    readable::unwrap_blocking,
    rust_path::{arguments, split_top, without_arguments},
    scheduler,
};
use crate::{
    elf::VirtAddr,
    model::{NameSource, SourceLocation},
    runtime::tokio::vtable::RawVtable,
};

/// More possible names than this are no help.
const MAX_NAMES: usize = 3;

pub(super) fn names(context: &Context<'_>) -> Vec<Option<TaskName>> {
    if context.symbols.is_empty() {
        return vec![None; context.vtables.len()];
    }
    let evidence = evidence::read(context);
    let shared = shared(context.vtables, &evidence);
    let with_evidence = context.vtables.iter().zip(&evidence);
    with_evidence
        .map(|(vtable, evidence)| decide(context, vtable, evidence, &shared))
        .collect()
}

/// The first bodies and the drop glue that several tasks of one scheduler lead to: they have been
/// folded, and their names are not to be trusted, since no two such tasks have the same future. (A
/// future's tasks on two schedulers may share what is the future's own; a closure has one task on
/// the blocking pool only.)
fn shared(vtables: &[RawVtable], evidence: &[Evidence]) -> HashSet<VirtAddr> {
    let (mut seen, mut shared) = (HashSet::new(), HashSet::new());
    for (vtable, evidence) in vtables.iter().zip(evidence) {
        let scheduler = vtable
            .schedule
            .filter(|_| vtable.scheduler_size() == Some(8));
        let poll = evidence.bodies.first().map(|body| body.address);
        for function in poll.into_iter().chain(evidence.glue.keys().copied()) {
            if !seen.insert((function, scheduler)) {
                shared.insert(function);
            }
        }
    }
    shared
}

fn decide(
    context: &Context<'_>,
    vtable: &RawVtable,
    evidence: &Evidence,
    shared: &HashSet<VirtAddr>,
) -> Option<TaskName> {
    let named = |type_name: String, certain| TaskName {
        type_name,
        others: Vec::new(),
        source: NameSource::Calls,
        certain,
        scheduler: evidence.scheduler.as_deref().and_then(scheduler::from_type),
        location: None,
    };
    let own = Own::of(evidence, shared);
    if let Some(name) = own.proven(context, vtable) {
        return Some(named(name, true));
    }
    let mut common = own.common_glue().into_iter();
    let mut bodies = evidence.bodies.iter().filter_map(Body::only);
    match (common.next(), bodies.find(|body| !is_library(body))) {
        (Some(first), _) if common.len() == 0 => Some(named(first, false)),
        (Some(first), _) if common.len() < MAX_NAMES => Some(TaskName {
            others: common.collect(),
            ..named(first, false)
        }),
        (_, Some(body)) => Some(named(body.to_owned(), false)),
        (_, None) => None,
    }
}

/// The evidence that is one task type's own.
struct Own<'a> {
    bodies: &'a [Body],
    /// The types that its drop glue names, of glue that it shares with no other.
    glue: Vec<&'a BTreeSet<String>>,
    /// Whether its first body is shared with another.
    shares_poll: bool,
}

impl<'a> Own<'a> {
    fn of(evidence: &'a Evidence, shared: &HashSet<VirtAddr>) -> Self {
        let glue = evidence.glue.iter();
        Self {
            bodies: &evidence.bodies,
            glue: glue
                .filter(|(address, _)| !shared.contains(address))
                .map(|(_, names)| names)
                .collect(),
            shares_poll: evidence
                .bodies
                .first()
                .is_some_and(|body| shared.contains(&body.address)),
        }
    }

    fn proven(&self, context: &Context<'_>, vtable: &RawVtable) -> Option<String> {
        let place = context.definition(vtable.poll);
        match self.defined(context, place.as_ref()) {
            Some(body) => Some(self.around(body).unwrap_or_else(|| body.to_owned())),
            None => self.agreed(place.is_some()),
        }
    }

    /// The async function or block that the task polls first: one whose body has the definition of
    /// the task itself.
    fn defined(&self, context: &Context<'_>, place: Option<&SourceLocation>) -> Option<&'a str> {
        let is_async = |body: &&Body| body.types.iter().any(|name| name.ends_with("{{closure}}"));
        let mut nearest = self.bodies.iter().filter(is_async).take(MAX_NAMES);
        let has_place = |body: &&Body| context.definition(body.address).as_ref() == place;
        place.and_then(|_| nearest.find(has_place))?.only()
    }

    /// The whole type, as the glue names it, of a task that wraps `body` or is `body` with its
    /// generic arguments.
    fn around(&self, body: &str) -> Option<String> {
        let type_name = self.only_glue()?;
        if bare(unwrap_blocking(type_name)) == body {
            return Some(type_name.to_owned());
        }
        let wraps = |inner: &str| bare(inner) == body;
        let (wrapper, inner) = wrapped(type_name)?;
        (wraps(inner) && self.polls(wrapper)).then(|| type_name.to_owned())
    }

    /// What poll function and glue agree on, where no body with the task's definition is called.
    /// The body of a closure that is called although the definition is another's is one that the
    /// task awaits. Where all bodies were inlined, the glue alone tells; but not what a wrapper
    /// wraps, since many of them share their glue.
    fn agreed(&self, has_place: bool) -> Option<String> {
        let type_name = self.only_glue()?;
        let own = unwrap_blocking(type_name);
        let is_body = own.ends_with("{{closure}}");
        let is_whole = is_body || arguments(own).is_empty();
        let is_agreed = match self.bodies {
            [] => true,
            _ => self.polls(own) && !(is_body && has_place),
        };
        (is_whole && is_agreed).then(|| type_name.to_owned())
    }

    /// Whether the first body is that of `path`'s own `poll`, and no other task's.
    fn polls(&self, path: &str) -> bool {
        let first = self.bodies.first().filter(|_| !self.shares_poll);
        first
            .and_then(Body::only)
            .is_some_and(|name| bare(name) == bare(path))
    }

    /// The one type that all glue of its own agrees on.
    fn only_glue(&self) -> Option<&'a str> {
        let mut names = self.glue.iter().copied().flatten();
        let first = names.next()?;
        names.all(|name| name == first).then_some(first.as_str())
    }

    /// The types that all glue of its own names.
    fn common_glue(&self) -> BTreeSet<String> {
        let sets = self.glue.iter().map(|names| (*names).clone());
        sets.reduce(|a, b| a.intersection(&b).cloned().collect())
            .unwrap_or_default()
    }
}

/// `app::Timed` and `app::f::{{closure}}` of `app::Timed<app::f::{{closure}}>`: a wrapper around
/// one future.
fn wrapped(type_name: &str) -> Option<(&str, &str)> {
    match arguments(type_name)[..] {
        [inner] => Some((without_arguments(type_name), inner)),
        _ => None,
    }
}

/// Whether a body is a library's: almost certainly a future that the task awaits, not the task's
/// own.
fn is_library(body: &str) -> bool {
    const LIBRARIES: [&str; 6] = [
        "tokio::",
        "core::",
        "alloc::",
        "std::",
        "futures_util::",
        "futures_core::",
    ];
    LIBRARIES
        .iter()
        .any(|library| body.trim_start_matches('<').starts_with(library))
}

/// A path with the generic arguments of all its segments dropped: call targets do not have them.
fn bare(name: &str) -> String {
    split_top(name, "::")
        .iter()
        .map(|segment| bare_segment(segment))
        .collect::<Vec<_>>()
        .join("::")
}

fn bare_segment(segment: &str) -> &str {
    if segment.starts_with('<') {
        segment
    } else {
        without_arguments(segment)
    }
}
