//! Names of task types: a chain of sources, best first.
//!
//! Each source looks at all vtables at once and says what it knows of each future's type. What a
//! better source left open, a later one fills in.

mod agreement;
mod await_types;
mod boxed;
mod callees;
mod calls;
mod debug_info;
mod dwarf;
mod evidence;
mod location;
mod readable;
mod rust_path;
mod scheduler;
mod slots;
mod symbols;
mod wrapped;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
};

use super::{Scheduler, vtable::RawVtable};
use crate::{
    code::{StateMachines, registry_crate},
    elf::{Image, SymbolTable, VirtAddr},
    model::{NameSource, SourceLocation, TaskKind, TaskType},
};

pub(super) use await_types::{AwaitTypes, TypeId};
pub(super) use boxed::may_be_boxed;
pub use boxed::{BoxedFutures, ProcessMemory};
pub(super) use debug_info::DebugInfo;
pub use readable::readable;
use readable::unwrap_blocking;
pub(super) use rust_path::without_arguments;
pub(super) use slots::functions;
pub(super) use symbols::{demangle, is_poll, mangling};

/// What a source knows of a task's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskName {
    /// The full name of the future's type, as the source spells it.
    pub type_name: String,
    /// Other types that it could be as well.
    pub others: Vec<String>,
    /// How it was learnt.
    pub source: NameSource,
    /// Whether it is certain.
    pub certain: bool,
    /// Which scheduler, where the source tells.
    pub scheduler: Option<Scheduler>,
    /// Where the future is defined, where the source tells.
    pub location: Option<SourceLocation>,
}

/// What names are read from.
pub(super) struct Context<'a> {
    pub image: &'a Image,
    pub symbols: &'a SymbolTable,
    pub debug: &'a DebugInfo,
    pub vtables: &'a [RawVtable],
    pub machines: RefCell<StateMachines>,
}

impl Context<'_> {
    /// Where the async function or block that `function` polls is defined, if that is certain.
    fn definition(&self, function: VirtAddr) -> Option<SourceLocation> {
        let found = self.machines.borrow_mut().outermost(self.image, function)?;
        found.certain.then_some(found.location)
    }
}

/// The best name for each vtable, in their order; `None` where only place and size are known.
pub(super) fn resolve(context: &Context<'_>) -> Vec<Option<TaskName>> {
    let sources = [symbols::names, dwarf::names, calls::names, location::names];
    let mut best: Vec<Option<TaskName>> = vec![None; context.vtables.len()];
    for source in sources {
        for (best, found) in best.iter_mut().zip(source(context)) {
            merge(best, found);
        }
    }
    scheduler::share(context.vtables, &mut best);
    agreement::hold(context, &mut best);
    wrapped::name_by_content(context, &mut best);
    name_by_location(context.vtables, &mut best);
    best
}

/// What the symbols alone say, and for nobody to read: which scheduler each type has.
pub(super) fn from_symbols(context: &Context<'_>) -> Vec<Option<TaskName>> {
    let mut names = symbols::names(context);
    scheduler::share(context.vtables, &mut names);
    names
}

/// Names a type of which only the definition is known like another one with the same definition and
/// size: a future has a vtable for each scheduler, and its body may be inlined into the poll
/// function of one and not of the other. Only names of bodies are shared: wrappers and generic
/// arguments can differ where definition and size do not.
fn name_by_location(vtables: &[RawVtable], names: &mut [Option<TaskName>]) {
    let mut known: HashMap<_, Option<(NameSource, String)>> = HashMap::new();
    for (vtable, name) in vtables.iter().zip(&*names) {
        let Some(name) = name
            .as_ref()
            .filter(|n| n.certain && n.source != NameSource::Location)
            .filter(|n| is_plain_body(&n.type_name))
        else {
            continue;
        };
        let Some(location) = name.location.clone().filter(|l| l.column.is_some()) else {
            continue;
        };
        let found = (name.source, name.type_name.clone());
        let entry = known
            .entry((location, vtable.trailer_offset))
            .or_insert_with(|| Some(found.clone()));
        *entry = entry.take().filter(|known| *known == found);
    }
    for (vtable, name) in vtables.iter().zip(names) {
        let Some(name) = name
            .as_mut()
            .filter(|n| n.certain && n.source == NameSource::Location)
        else {
            continue;
        };
        let key = name
            .location
            .clone()
            .map(|location| (location, vtable.trailer_offset));
        if let Some(Some((source, type_name))) = key.and_then(|key| known.get(&key)) {
            name.source = *source;
            name.type_name.clone_from(type_name);
        }
    }
}

/// Whether a type is the body of an async function or block without generic arguments.
fn is_plain_body(type_name: &str) -> bool {
    let brackets = type_name.matches('<').count();
    let is_plain = brackets == 0 || (brackets == 1 && type_name.starts_with('<'));
    is_plain && type_name.ends_with('}')
}

fn merge(best: &mut Option<TaskName>, found: Option<TaskName>) {
    let Some(found) = found else { return };
    match best {
        None => *best = Some(found),
        Some(best) if found.certain && !best.certain => {
            let scheduler = best.scheduler.or(found.scheduler);
            *best = TaskName { scheduler, ..found };
        }
        Some(best) => {
            best.scheduler = best.scheduler.or(found.scheduler);
            let location = found.location.filter(|_| found.certain);
            best.location = best.location.take().or(location);
            // DWARF numbers the impl blocks; symbols name their types.
            if let Some(name) = symbols::with_impl_named(&best.type_name, &found.type_name) {
                best.type_name = name;
            }
            // DWARF gives a function item on the blocking pool the type of its pointer; symbols
            // know which function.
            if found.certain && unwrap_blocking(&best.type_name).starts_with("fn(") {
                best.type_name = found.type_name;
            }
        }
    }
}

/// The task type that a name stands for.
pub(super) fn task_type(name: TaskName, kind: TaskKind) -> TaskType {
    let krate = name
        .location
        .as_ref()
        .and_then(|location| registry_crate(&location.file))
        .map(str::to_owned);
    let short = match (name.source, &name.others[..]) {
        (NameSource::Location, _) => name.type_name.clone(),
        (_, []) => readable(&name.type_name, kind),
        (_, others) => either(
            [&name.type_name]
                .into_iter()
                .chain(others)
                .map(|name| readable(name, kind)),
        ),
    };
    TaskType {
        full_name: (short != name.type_name).then_some(name.type_name),
        name: short,
        name_source: name.source,
        certain: name.certain,
        kind,
        location: name.location,
        krate,
    }
}

/// `a or b`; one name if all are the same.
fn either(names: impl Iterator<Item = String>) -> String {
    let names: BTreeSet<_> = names.collect();
    names.into_iter().collect::<Vec<_>>().join(" or ")
}
