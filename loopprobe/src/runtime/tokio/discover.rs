//! From an image's vtables to its poll sites, with their types' schedulers and names.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use super::{
    HeaderLayout, Scheduler, TokioImage, known,
    names::{self, Context, DebugInfo, TaskName, may_be_boxed},
    scheduler,
    version::{self, Version},
    vtable::{self, RawVtable, VtableLayout},
};
use crate::{
    code::{is_workspace, probe_point},
    elf::{Image, Sections, SymbolTable, VirtAddr},
    model::{NameSource, SourceLocation, TaskKind, TaskType},
    runtime::{
        DiscoverError, ImageFacts, LoopMarks, ServedType, Site, SiteRole,
        detect::installed_debug_file,
    },
};

/// Versions are known from the paths of panic locations.
const LOCATIONS: &str = "locations";

/// Finds all poll sites of an image, with the names that its own symbols and debug information
/// give, or those of a separate debug file where distributions install it.
///
/// # Errors
/// When the image holds no task type of Tokio's.
pub fn discover(image: &Image) -> Result<TokioImage, DiscoverError> {
    find(image, installed_debug_file(image).as_ref())?.ok_or_else(|| DiscoverError::Nothing {
        path: image.path().into(),
        names: "Tokio's".into(),
    })
}

/// Finds all poll sites of an image; `debug_file` is the image's separate debug file, which fills
/// in what the image itself lacks (see [`crate::elf::open_debug_file`]). `None` without a trace of
/// Tokio.
///
/// # Errors
/// When Tokio is there, but its tasks cannot be found without symbols.
pub(super) fn find(
    image: &Image,
    debug_file: Option<&Sections>,
) -> Result<Option<TokioImage>, DiscoverError> {
    let Some(structure) = Structure::of(image, debug_file)? else {
        return Ok(None);
    };
    let own = image.sections().ok();
    let with_dwarf = [own.as_ref(), debug_file]
        .into_iter()
        .flatten()
        .find(|s| s.has(".debug_info"));
    let debug = with_dwarf
        .map(|s| DebugInfo::read(s, &functions_of(image, &structure.vtables)))
        .unwrap_or_default();
    let names = structure.named(image, &debug, names::resolve);
    Ok(Some(structure.complete(image, debug_file, names, &debug)))
}

/// What [`find`] finds, but for what takes long: names from debug information and from code. Sites
/// and types are the same, and in the same order. Where a name may decide what is probed, before
/// Tokio 1.23, this is all.
///
/// # Errors
/// As those of [`find`].
pub(super) fn sketch(
    image: &Image,
    debug_file: Option<&Sections>,
) -> Result<Option<TokioImage>, DiscoverError> {
    let Some(structure) = Structure::of(image, debug_file)? else {
        return Ok(None);
    };
    let is_told_by_size = |v: &RawVtable| v.scheduler_size().is_some();
    if !structure.vtables.iter().all(is_told_by_size) {
        return find(image, debug_file);
    }
    let debug = DebugInfo::default();
    // The scheduler's name stands in the symbols.
    let names = structure.named(image, &debug, names::from_symbols);
    let mut found = structure.complete(image, debug_file, names, &debug);
    found.facts.is_named = false;
    Ok(Some(found))
}

/// What an image holds, before its tasks have names.
struct Structure {
    located: BTreeSet<Version>,
    vtables: Vec<RawVtable>,
    symbols: SymbolTable,
    stripped: bool,
}

impl Structure {
    /// `None` without a trace of Tokio.
    fn of(image: &Image, debug_file: Option<&Sections>) -> Result<Option<Self>, DiscoverError> {
        // Without readable sections an image is one without symbols.
        let own = image.sections().ok();
        let own_symbols = own.as_ref().map(read_symbols).unwrap_or_default();
        let stripped = own_symbols.is_empty();
        let symbols = if stripped {
            debug_file.map(read_symbols).unwrap_or_default()
        } else {
            own_symbols
        };
        let located = version::from_locations(image);
        let vtables = find_vtables(image, &located, &symbols);
        if vtables.is_empty() {
            return match located.is_empty() {
                true => Ok(None),
                false => Err(without_types(image, &located)),
            };
        }
        Ok(Some(Self {
            located,
            vtables,
            symbols,
            stripped,
        }))
    }

    fn named(
        &self,
        image: &Image,
        debug: &DebugInfo,
        source: fn(&Context<'_>) -> Vec<Option<TaskName>>,
    ) -> Vec<Option<TaskName>> {
        source(&Context {
            image,
            symbols: &self.symbols,
            debug,
            vtables: &self.vtables,
            machines: RefCell::default(),
        })
    }

    fn complete(
        self,
        image: &Image,
        debug_file: Option<&Sections>,
        names: Vec<Option<TaskName>>,
        debug: &DebugInfo,
    ) -> TokioImage {
        let schedulers = scheduler::from_code(image, &self.vtables);
        let (versions, versions_source) = name_versions(&self.located, &self.vtables);
        let header = header_layout(&self.vtables, &self.located);
        let asynchronous = self.vtables.iter().zip(&names).filter_map(|(raw, name)| {
            Some((raw.schedule?, scheduler_of(raw, name.as_ref(), &schedulers)))
        });
        let schedule = scheduler::schedule_points(image, asynchronous);
        let sites = sites(image, self.vtables.into_iter().zip(names), &schedulers);
        let facts = ImageFacts {
            versions,
            versions_source,
            tells_sources: versions_source == LOCATIONS,
            stripped: self.stripped,
            mangling: names::mangling(&self.symbols),
            debug_info: debug.level(),
            debug_file: debug_file.map(|file| file.path().into()),
            marks: LoopMarks {
                schedule,
                ..known::loop_marks(image, &self.symbols)
            },
            ..ImageFacts::of(image, sites)
        };
        TokioImage { facts, header }
    }
}

pub(super) fn read_symbols(sections: &Sections) -> SymbolTable {
    SymbolTable::read(sections).unwrap_or_default()
}

/// Source: `tokio/src/runtime/task/core.rs`: the vtable is the third word from 1.21 on, the fifth
/// from 1.9 on, and the sixth before.
fn header_layout(vtables: &[RawVtable], versions: &BTreeSet<Version>) -> HeaderLayout {
    let functions_only = vtables.iter().all(|v| v.layout == VtableLayout::Functions);
    let vtable = match (functions_only, versions.first()) {
        (false, _) => 0x10,
        (true, Some(version)) if *version < Version(1, 9, 0) => 0x28,
        (true, _) => 0x20,
    };
    let unstable = vtables
        .iter()
        .any(|v| v.layout == VtableLayout::Seven { unstable: true });
    HeaderLayout {
        state: 0,
        vtable,
        unstable,
    }
}

fn functions_of(image: &Image, vtables: &[RawVtable]) -> HashSet<VirtAddr> {
    vtables
        .iter()
        .flat_map(|vtable| names::functions(image, vtable))
        .collect()
}

/// Tokio is there, but no task type.
fn without_types(image: &Image, versions: &BTreeSet<Version>) -> DiscoverError {
    let versions: Vec<_> = versions.iter().map(Version::to_string).collect();
    DiscoverError::Incomplete {
        path: image.path().into(),
        what: format!("Tokio {}", versions.join(", ")),
        why: "no task types were found; versions before 1.21 need the symbol table: give an unstripped copy with --debug-file",
    }
}

pub(super) fn find_vtables(
    image: &Image,
    versions: &BTreeSet<Version>,
    symbols: &SymbolTable,
) -> Vec<RawVtable> {
    let mut found = vtable::scan(image);
    let is_eight = |v: &Version| (Version(1, 21, 0)..Version(1, 23, 0)).contains(v);
    if versions.iter().any(is_eight) {
        found.extend(vtable::scan_eight(image));
    }
    if found.is_empty() {
        found = known::vtables_by_symbols(image, symbols);
    }
    found
}

/// Tokio's versions and how they are known; without panic locations, the range that the vtables'
/// structure allows.
pub(super) fn name_versions(
    versions: &BTreeSet<Version>,
    vtables: &[RawVtable],
) -> (Vec<String>, &'static str) {
    if !versions.is_empty() {
        return (versions.iter().map(Version::to_string).collect(), LOCATIONS);
    }
    let any = |test: &dyn Fn(&RawVtable) -> bool| vtables.iter().any(test);
    let range = if any(&|v| v.layout == VtableLayout::Eight) {
        "1.21 to 1.22"
    } else if any(&|v| v.layout == VtableLayout::Seven { unstable: true }) {
        "1.46 or later"
    } else if any(&|v| v.scheduler_size().is_some_and(|size| size >= 16)) {
        "1.40 or later"
    } else {
        "1.23 or later"
    };
    (vec![range.into()], "structure")
}

/// Groups vtables by where their poll function is probed.
fn sites(
    image: &Image,
    vtables: impl Iterator<Item = (RawVtable, Option<TaskName>)>,
    told: &HashMap<VirtAddr, Scheduler>,
) -> Vec<Site> {
    let mut sites: BTreeMap<_, Site> = BTreeMap::new();
    for (raw, name) in vtables {
        let Some(point) = probe_point(image, raw.poll) else {
            continue;
        };
        let Some(offset) = image.file_offset(point.address) else {
            continue;
        };
        let site = sites.entry(offset).or_insert_with(|| Site {
            offset,
            address: point.address,
            entry: point.instruction,
            role: SiteRole::Closure,
            has_header: true,
            types: Vec::new(),
        });
        let served = served(&raw, name, told);
        // A site whose types disagree is timed, and told apart by the vtable.
        if served.task.kind != TaskKind::Blocking {
            site.role = SiteRole::Turn;
        }
        site.types.push(served);
    }
    let mut sites: Vec<Site> = sites.into_values().collect();
    mark_wrappers(&mut sites);
    sites
}

/// Marks the types of a dependency's async function or block that has more of them than there are
/// schedulers: it is generic, and what it is given may be a box.
fn mark_wrappers(sites: &mut [Site]) {
    const SCHEDULERS: usize = 3;
    let mut counts: HashMap<SourceLocation, usize> = HashMap::new();
    let types = || sites.iter().flat_map(|site| &site.types);
    for location in types().filter_map(of_dependency) {
        *counts.entry(location.clone()).or_default() += 1;
    }
    for served in sites.iter_mut().flat_map(|site| &mut site.types) {
        let count = of_dependency(served).and_then(|location| counts.get(location));
        served.is_wrapper = count.is_some_and(|count| *count > SCHEDULERS);
    }
}

/// Where the async function or block of a dependency's is that a type certainly is.
fn of_dependency(served: &ServedType) -> Option<&SourceLocation> {
    let is_async = served.task.kind == TaskKind::Async && served.task.certain;
    let location = served.task.location.as_ref().filter(|_| is_async)?;
    (!is_workspace(&location.file)).then_some(location)
}

fn served(
    raw: &RawVtable,
    name: Option<TaskName>,
    told: &HashMap<VirtAddr, Scheduler>,
) -> ServedType {
    let scheduler = scheduler_of(raw, name.as_ref(), told);
    let kind = if scheduler == Scheduler::Blocking {
        TaskKind::Blocking
    } else {
        TaskKind::Async
    };
    let task = name.map_or_else(|| unnamed(raw, kind), |name| names::task_type(name, kind));
    ServedType {
        key: raw.address,
        function: raw.poll,
        size: raw.trailer_offset.unwrap_or(0),
        scheduler_offset: raw.scheduler_offset.unwrap_or(0),
        id_offset: raw.id_offset.unwrap_or(0),
        scheduler: scheduler.word(),
        is_local: scheduler.is_local(),
        ask_memory: may_be_boxed(&task),
        is_wrapper: false,
        task,
    }
}

/// The structure tells async from blocking where the scheduler's size is not 8; the name's source
/// or the code of `raw::schedule` tells the rest.
fn scheduler_of(
    raw: &RawVtable,
    name: Option<&TaskName>,
    told: &HashMap<VirtAddr, Scheduler>,
) -> Scheduler {
    match raw.scheduler_size() {
        Some(size) if size != 8 => Scheduler::Blocking,
        _ if name.is_some_and(|name| {
            name.type_name
                .starts_with("tokio::runtime::blocking::task::BlockingTask<")
        }) =>
        {
            Scheduler::Blocking
        }
        _ => name
            .and_then(|name| name.scheduler)
            .or_else(|| told.get(&raw.schedule?).copied())
            .unwrap_or(Scheduler::Unknown),
    }
}

/// A task type known by its place and size only.
fn unnamed(raw: &RawVtable, kind: TaskKind) -> TaskType {
    let size = raw
        .trailer_offset
        .map_or_else(String::new, |size| format!(" ({size} bytes)"));
    TaskType {
        name: format!("task type @{:#x}{size}", raw.address),
        full_name: None,
        name_source: NameSource::None,
        certain: false,
        kind,
        location: None,
        krate: None,
    }
}
