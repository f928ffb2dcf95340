//! Names from legacy symbols: `raw::poll`'s own symbol hides its types there, but the functions that it leads to do not.
//!
//! Two kinds of evidence. The first body that the poll chain calls is the future's own, unless that was inlined: then it
//! is one that the future awaits. And drop glue keeps the whole type in its name (`drop_in_place<Stage<F>>`), unless it
//! was folded with another type's: then one name of several survives. Where both agree, the name is certain.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Context, TaskName,
    callees::Callees,
    readable::unwrap_blocking,
    rust_path::{arguments, split_top, without_arguments},
    scheduler, slots,
    symbols::demangle,
};
use crate::{elf::VirtAddr, model::NameSource, runtime::tokio::vtable::RawVtable};

/// The poll chain has at most seven links without inlining.
const MAX_DEPTH: usize = 8;
const MAX_VISITED: usize = 256;

/// What the functions behind a vtable say about its types.
#[derive(Debug, Default)]
struct Evidence {
    /// Bodies that the poll chain calls, nearest first.
    bodies: Vec<String>,
    /// Drop glue and the types that its symbols name.
    glue: BTreeMap<VirtAddr, BTreeSet<String>>,
    /// The scheduler's type.
    scheduler: Option<String>,
}

pub fn names(context: &Context<'_>) -> Vec<Option<TaskName>> {
    if context.symbols.is_empty() {
        return vec![None; context.vtables.len()];
    }
    let walker = Walker {
        context,
        callees: Callees::new(context.image, context.symbols),
    };
    let evidence: Vec<_> = context
        .vtables
        .iter()
        .map(|vtable| walker.evidence(vtable))
        .collect();
    let shared = shared_glue(context.vtables, &evidence);
    evidence
        .iter()
        .map(|evidence| decide(evidence, &shared))
        .collect()
}

/// Glue that tasks with different bodies lead to has been folded: its names are not to be trusted.
fn shared_glue(vtables: &[RawVtable], evidence: &[Evidence]) -> HashSet<VirtAddr> {
    let mut users: HashMap<VirtAddr, HashSet<_>> = HashMap::new();
    for (vtable, evidence) in vtables.iter().zip(evidence) {
        for glue in evidence.glue.keys() {
            users
                .entry(*glue)
                .or_default()
                .insert((evidence.bodies.first(), vtable.trailer_offset));
        }
    }
    users
        .into_iter()
        .filter(|(_, users)| users.len() > 1)
        .map(|(glue, _)| glue)
        .collect()
}

fn decide(evidence: &Evidence, shared: &HashSet<VirtAddr>) -> Option<TaskName> {
    let confirmed = evidence.bodies.iter().take(1).find_map(|body| {
        let agrees = |name: &&String| bare(unwrap_blocking(name)) == bare(body);
        evidence.glue.values().flatten().find(agrees).cloned()
    });
    let own_glue = evidence
        .glue
        .iter()
        .filter(|(address, _)| !shared.contains(address))
        .map(|(_, names)| names);
    let (type_name, certain) = match (confirmed, unanimous(own_glue)) {
        (Some(name), _) => (name, true),
        (None, Some(name)) => (name, evidence.bodies.is_empty()),
        (None, None) => (
            evidence
                .bodies
                .first()
                .cloned()
                .or_else(|| unanimous(evidence.glue.values()))?,
            false,
        ),
    };
    Some(TaskName {
        type_name,
        source: NameSource::Calls,
        certain,
        scheduler: evidence.scheduler.as_deref().and_then(scheduler::from_type),
        location: None,
    })
}

/// The only type that all sets have, if there is just one.
fn unanimous<'a>(sets: impl Iterator<Item = &'a BTreeSet<String>>) -> Option<String> {
    let common = sets
        .cloned()
        .reduce(|a, b| a.intersection(&b).cloned().collect())?;
    (common.len() == 1)
        .then(|| common.into_iter().next())
        .flatten()
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

struct Walker<'a> {
    context: &'a Context<'a>,
    callees: Callees<'a>,
}

impl Walker<'_> {
    fn evidence(&self, vtable: &RawVtable) -> Evidence {
        let mut evidence = Evidence::default();
        self.walk(vtable.poll, true, &mut evidence);
        for function in slots::functions(self.context.image, vtable)
            .into_iter()
            .skip(1)
        {
            self.walk(function, false, &mut evidence);
        }
        evidence
    }

    /// Visits the functions that `start` leads to through Tokio's own, nearest first.
    fn walk(&self, start: VirtAddr, is_poll: bool, evidence: &mut Evidence) {
        let (mut level, mut seen) = (vec![start], HashSet::from([start]));
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for function in level.iter().flat_map(|f| self.callees.of(*f).to_vec()) {
                if seen.len() < MAX_VISITED
                    && seen.insert(function)
                    && self.visit(function, is_poll, evidence)
                {
                    next.push(function);
                }
            }
            level = next;
        }
    }

    /// Notes what a function's symbols say; whether it is one of Tokio's own, to be followed.
    fn visit(&self, function: VirtAddr, is_poll: bool, evidence: &mut Evidence) -> bool {
        let mut follow = false;
        for name in self
            .context
            .symbols
            .at(function)
            .take(64)
            .filter_map(|symbol| demangle(symbol.name))
        {
            if let Some((future, scheduler)) = dropped(&name) {
                evidence.glue.entry(function).or_default().insert(future);
                evidence.scheduler = evidence.scheduler.take().or(scheduler);
                // The glue of a whole cell calls that of its parts.
                follow |= name.contains("::task::core::C");
            } else if is_plumbing(&name) {
                follow = true;
            } else if is_poll && let Some(body) = body(&name) {
                evidence.bodies.push(body);
            }
        }
        follow
    }
}

/// `F`, and `S` where it has it, of the drop glue of a task or one of its parts.
fn dropped(name: &str) -> Option<(String, Option<String>)> {
    let dropped = name
        .strip_prefix("core::ptr::drop_in_place<")?
        .strip_suffix('>')?;
    let dropped = match without_arguments(dropped) {
        "alloc::boxed::Box" => arguments(dropped).first().copied()?,
        _ => dropped,
    };
    let part = without_arguments(dropped).strip_prefix("tokio::runtime::task::core::")?;
    match (part, &arguments(dropped)[..]) {
        ("Cell" | "Core", [future, scheduler, ..]) => {
            Some(((*future).to_owned(), Some((*scheduler).to_owned())))
        }
        ("Stage" | "CoreStage", [future, ..]) => Some(((*future).to_owned(), None)),
        _ => None,
    }
}

/// Whether a function stands between `raw::poll` and the future's own poll.
fn is_plumbing(name: &str) -> bool {
    const PREFIXES: [&str; 14] = [
        "tokio::runtime::task::raw::",
        "tokio::runtime::task::harness::",
        "tokio::runtime::task::core::",
        "<tokio::runtime::task::core::",
        "<tokio::runtime::blocking::task::BlockingTask<",
        "tokio::loom::std::unsafe_cell::",
        "std::panicking::catch_unwind",
        "std::panicking::try",
        "std::panic::catch_unwind",
        "__rust_try",
        "<core::panic::unwind_safe::AssertUnwindSafe<",
        "core::ops::function::FnOnce::call_once",
        "<tokio::runtime::task::harness::",
        "<core::pin::Pin<P> as core::future::future::Future>::poll",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The type whose body a function is: a closure's own path, or `X` of `<X as Future>::poll`.
fn body(name: &str) -> Option<String> {
    if name.ends_with("::{{closure}}") {
        let is_runtime = [
            "tokio::runtime::",
            "std::",
            "core::",
            "<core::",
            "<std::",
            "<tokio::runtime::",
        ];
        return (!is_runtime.iter().any(|prefix| name.starts_with(prefix)))
            .then(|| name.to_owned());
    }
    let own = name.strip_suffix(" as core::future::future::Future>::poll")?;
    Some(own.strip_prefix('<')?.to_owned())
}
