//! Names from legacy symbols: `raw::poll`'s own symbol hides its types there, but the functions that it leads to do not.
//!
//! Two kinds of evidence. The first body that the poll chain calls is the future's own, unless that was inlined: then it
//! is one that the future awaits. And drop glue keeps the whole type in its name (`drop_in_place<Stage<F>>`), unless it
//! was folded with another type's: then one name of several survives. Where both agree, the name is certain.

use std::collections::{BTreeMap, BTreeSet, HashSet};

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
/// More possible names than this are no help.
const MAX_NAMES: usize = 3;

/// What the functions behind a vtable say about its types.
#[derive(Debug, Default)]
struct Evidence {
    /// Bodies that the poll chain calls, nearest first.
    bodies: Vec<(VirtAddr, String)>,
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
    let with_evidence = context.vtables.iter().zip(&evidence);
    with_evidence
        .map(|(vtable, evidence)| decide(context, vtable, evidence, &shared))
        .collect()
}

/// Glue that two tasks of the same scheduler lead to has been folded: no two of them have the same future, so its names
/// are not to be trusted. (A future's tasks on two schedulers may share the glue of the future itself; a closure has one
/// task on the blocking pool only.)
fn shared_glue(vtables: &[RawVtable], evidence: &[Evidence]) -> HashSet<VirtAddr> {
    let (mut seen, mut shared) = (HashSet::new(), HashSet::new());
    for (vtable, evidence) in vtables.iter().zip(evidence) {
        for glue in evidence.glue.keys() {
            let scheduler = vtable
                .schedule
                .filter(|_| vtable.scheduler_size() == Some(8));
            if !seen.insert((*glue, scheduler)) {
                shared.insert(*glue);
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
    if let Some(name) = confirmed(evidence).or_else(|| same_definition(context, vtable, evidence)) {
        return Some(named(name, true));
    }
    let own_glue = evidence
        .glue
        .iter()
        .filter(|(address, _)| !shared.contains(address))
        .map(|(_, names)| names);
    let mut common = common(own_glue).into_iter();
    match (
        common.next(),
        evidence
            .bodies
            .iter()
            .map(|(_, body)| body)
            .find(|body| !is_library(body)),
    ) {
        (Some(first), _) if common.len() == 0 => Some(named(first, evidence.bodies.is_empty())),
        (Some(first), _) if common.len() < MAX_NAMES => Some(TaskName {
            others: common.collect(),
            ..named(first, false)
        }),
        (_, Some(body)) => Some(named(body.clone(), false)),
        (_, None) => None,
    }
}

/// The type that the nearest body and some glue agree on.
fn confirmed(evidence: &Evidence) -> Option<String> {
    let (_, body) = evidence.bodies.first()?;
    let agrees = |name: &&String| bare(unwrap_blocking(name)) == bare(body);
    evidence.glue.values().flatten().find(agrees).cloned()
}

/// The body that has the definition of the task itself: it is not one that the task awaits.
fn same_definition(
    context: &Context<'_>,
    vtable: &RawVtable,
    evidence: &Evidence,
) -> Option<String> {
    let bodies = evidence
        .bodies
        .iter()
        .filter(|(_, name)| name.ends_with("{{closure}}"));
    let nearest: Vec<_> = bodies.take(MAX_NAMES).collect();
    let own = context
        .definition(vtable.poll)
        .filter(|_| !nearest.is_empty())?;
    let found = nearest
        .into_iter()
        .find(|(body, _)| context.definition(*body).as_ref() == Some(&own));
    found.map(|(_, name)| name.clone())
}

/// The types that all sets have.
fn common<'a>(sets: impl Iterator<Item = &'a BTreeSet<String>>) -> BTreeSet<String> {
    sets.cloned()
        .reduce(|a, b| a.intersection(&b).cloned().collect())
        .unwrap_or_default()
}

/// Whether a body is a library's: almost certainly a future that the task awaits, not the task's own.
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
        if let Some(scheduler) = vtable.schedule.filter(|_| evidence.scheduler.is_none()) {
            evidence.scheduler = self.scheduler_behind(scheduler);
        }
        evidence
    }

    /// The first function that `raw::schedule<S>` leads to and that names a scheduler.
    fn scheduler_behind(&self, schedule: VirtAddr) -> Option<String> {
        let near = self.callees.of(schedule);
        let far = near
            .iter()
            .flat_map(|function| self.callees.of(*function).to_vec());
        let functions = near.iter().copied().chain(far).take(MAX_VISITED);
        let mut names = functions
            .flat_map(|f| self.context.symbols.at(f).take(4))
            .filter_map(|s| demangle(s.name));
        names.find(|name| scheduler::from_type(name).is_some())
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
                evidence.bodies.push((function, body));
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
