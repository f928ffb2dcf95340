//! What the functions behind a vtable say in legacy symbols.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    Context,
    callees::Callees,
    rust_path::{arguments, without_arguments},
    scheduler, slots,
    symbols::demangle,
};
use crate::{elf::VirtAddr, runtime::tokio::vtable::RawVtable};

/// The poll chain has at most seven links without inlining.
const MAX_DEPTH: usize = 8;
const MAX_VISITED: usize = 256;
/// More functions than this at one address are not told apart.
const MAX_ALIASES: usize = 64;

/// What the functions behind a vtable say about its types.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Bodies that the poll chain calls, nearest first.
    pub bodies: Vec<Body>,
    /// Drop glue and the types that its symbols name.
    pub glue: BTreeMap<VirtAddr, BTreeSet<String>>,
    /// The scheduler's type.
    pub scheduler: Option<String>,
}

/// A function of the poll chain that is the body of a future, and the types that its symbols name:
/// several where functions were folded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Body {
    pub address: VirtAddr,
    pub types: BTreeSet<String>,
}

impl Body {
    /// The one type that it names.
    pub(super) fn only(&self) -> Option<&str> {
        let mut types = self.types.iter();
        types
            .next()
            .filter(|_| types.len() == 0)
            .map(String::as_str)
    }
}

/// Reads the evidence of all vtables of an image.
pub(super) fn read(context: &Context<'_>) -> Vec<Evidence> {
    let walker = Walker {
        context,
        callees: Callees::new(context.image, context.symbols),
    };
    let vtables = context.vtables.iter();
    vtables.map(|vtable| walker.evidence(vtable)).collect()
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
        let (mut follow, mut types) = (false, BTreeSet::new());
        let symbols = self.context.symbols.at(function).take(MAX_ALIASES);
        for name in symbols.filter_map(|symbol| demangle(symbol.name)) {
            if let Some((future, scheduler)) = dropped(&name) {
                evidence.glue.entry(function).or_default().insert(future);
                evidence.scheduler = evidence.scheduler.take().or(scheduler);
                // The glue of a whole cell calls that of its parts.
                follow |= name.contains("::task::core::C");
            } else if is_plumbing(&name) {
                follow = true;
            } else if is_poll {
                types.extend(body(&name));
            }
        }
        if !types.is_empty() {
            let address = function;
            evidence.bodies.push(Body { address, types });
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
