//! The types of futures in debug information: where an async function or block keeps its state, and
//! what it awaits in each.
//!
//! Source: `compiler/rustc_codegen_llvm/src/debuginfo/metadata/enums/native.rs` (Rust 1.60 to
//! 1.97): a state machine is a structure with a variant part; each variant's member has the place
//! of the await, and its type a member `__awaitee`.

mod structure;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use gimli::{
    Dwarf, DwarfSections, EndianSlice, LittleEndian, SectionId, UnitHeader, UnitRef,
    constants as dw,
};

use self::structure::Place;
use super::debug_info::{Entry, Slice, low_pc, string};
use crate::{
    elf::{Sections, VirtAddr},
    model::SourceLocation,
};

/// Looking at all entries takes about a second for each 10 million.
const MAX_ENTRIES: usize = 40_000_000;
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Types that are kept.
const MAX_TYPES: usize = 1 << 18;

/// A type: its index among all that were read.
pub(crate) type TypeId = usize;

/// What a future's type is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FutureType {
    /// Its path, such as `app::upload::{async_fn_env#0}`.
    pub name: String,
    /// How its state is kept; `None` for what is no async function or block.
    pub machine: Option<Machine>,
}

/// A state machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Where its state lies.
    pub state: Discriminant,
    /// By state, what it does then.
    pub suspended: HashMap<u64, Suspended>,
}

/// A number that tells which variant is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Discriminant {
    /// Bytes from the value's beginning.
    pub offset: u64,
    /// Bytes that it takes.
    pub size: u64,
}

/// A state in which something is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspended {
    /// Where the await is.
    pub location: Option<SourceLocation>,
    /// What is awaited, and how many bytes from the machine's beginning it lies.
    pub awaitee: Option<(u64, TypeId)>,
}

/// A task's future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskFuture {
    /// Bytes from the scheduler's pointer to the future.
    pub from_scheduler: i64,
    /// Which variant of the stage says that it is there: where that is told, again from the
    /// scheduler's pointer, and the value; `None` for all values that are no other variant's.
    pub stage: (i64, u64, Option<u64>),
    /// Its type.
    pub future: TypeId,
}

/// The futures of tasks.
#[derive(Debug, Default)]
pub(crate) struct AwaitTypes {
    /// All types.
    pub types: Vec<FutureType>,
    /// By the poll function of a task type, its future.
    pub tasks: HashMap<VirtAddr, TaskFuture>,
}

/// The namespaces around the entry that is being read.
#[derive(Default)]
struct Namespaces {
    /// With how deep each lies.
    open: Vec<(isize, String)>,
    /// From which entry on which path of them holds.
    paths: Vec<(usize, String)>,
}

impl Namespaces {
    /// The next entry of a unit.
    fn pass<'a>(&mut self, unit: UnitRef<'_, Slice<'a>>, entry: &Entry<'a>) {
        let before = self.open.len();
        while self
            .open
            .last()
            .is_some_and(|(depth, _)| *depth >= entry.depth())
        {
            self.open.pop();
        }
        let is_namespace = entry.tag() == dw::DW_TAG_namespace;
        if is_namespace {
            let name = string(unit, entry, dw::DW_AT_name).unwrap_or_default();
            self.open.push((entry.depth(), name));
        }
        if is_namespace || self.open.len() != before {
            let names = self.open.iter().map(|(_, name)| name.as_str());
            let path = names.collect::<Vec<_>>().join("::");
            self.paths.push((entry.offset().0, path));
        }
    }

    fn innermost(&self) -> Option<&str> {
        self.open.last().map(|(_, name)| name.as_str())
    }
}

struct Reader<'a> {
    dwarf: &'a Dwarf<Slice<'a>>,
    headers: Vec<UnitHeader<Slice<'a>>>,
    /// By unit: from which entry on which path of namespaces holds.
    paths: Vec<Vec<(usize, String)>>,
    known: HashMap<Place, TypeId>,
    found: AwaitTypes,
}

impl AwaitTypes {
    /// Reads what debug information tells of the futures that the functions at `polls` poll. What
    /// is malformed is left out.
    pub(crate) fn read(sections: &Sections, polls: &HashSet<VirtAddr>) -> Self {
        let load = |id: SectionId| {
            Ok::<_, crate::elf::ElfError>(sections.data(id.name())?.unwrap_or_default())
        };
        let Ok(bytes) = DwarfSections::load(load) else {
            return Self::default();
        };
        let dwarf = bytes.borrow(|section| EndianSlice::new(section, LittleEndian));
        let mut reader = Reader {
            dwarf: &dwarf,
            headers: Vec::new(),
            paths: Vec::new(),
            known: HashMap::new(),
            found: Self::default(),
        };
        let (functions, cores) = reader.index(polls);
        for (address, arguments) in functions {
            if let Some(core) = cores.get(&arguments)
                && let Some(task) = reader.task(*core)
            {
                reader.found.tasks.insert(address, task);
            }
        }
        reader.found
    }
}

impl Reader<'_> {
    /// The generic arguments of the wanted poll functions, and the types `Core` by theirs.
    fn index(
        &mut self,
        polls: &HashSet<VirtAddr>,
    ) -> (Vec<(VirtAddr, String)>, HashMap<String, Place>) {
        let (mut functions, mut cores) = (Vec::new(), HashMap::new());
        let (deadline, mut left) = (Instant::now() + TIME_LIMIT, MAX_ENTRIES);
        let mut headers = self.dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let index = self.headers.len();
            self.headers.push(header);
            self.paths.push(Vec::new());
            if Instant::now() > deadline || left == 0 {
                continue;
            }
            let Ok(unit) = self.dwarf.unit(header) else {
                continue;
            };
            let unit = unit.unit_ref(self.dwarf);
            let mut namespaces = Namespaces::default();
            let mut entries = unit.entries();
            while let Ok(Some(entry)) = entries.next_dfs() {
                left = left.saturating_sub(1);
                if left == 0 {
                    break;
                }
                namespaces.pass(unit, entry);
                match entry.tag() {
                    dw::DW_TAG_subprogram => {
                        let address = low_pc(unit, entry).filter(|a| polls.contains(a));
                        let name = address.and_then(|_| string(unit, entry, dw::DW_AT_name));
                        let arguments = name.as_deref().and_then(|n| arguments(n, "poll<"));
                        functions.extend(address.zip(arguments));
                    }
                    dw::DW_TAG_structure_type => {
                        let is_core = namespaces.innermost() == Some("core");
                        let name = is_core.then(|| string(unit, entry, dw::DW_AT_name));
                        let name = name.flatten();
                        if let Some(of) = name.as_deref().and_then(|n| arguments(n, "Core<")) {
                            cores.insert(of, (index, entry.offset()));
                        }
                    }
                    _ => {}
                }
            }
            self.paths[index] = namespaces.paths;
        }
        (functions, cores)
    }

    /// Source: `tokio/src/runtime/task/core.rs` (1.23 to 1.54): `Core` is scheduler, id and
    /// `CoreStage`, which is a cell around `Stage`, which is `Running(future)` first.
    fn task(&mut self, core: Place) -> Option<TaskFuture> {
        let core = self.structure(core)?;
        let member = |name: &str| core.members.iter().find(|member| member.name == name);
        let scheduler = member("scheduler")?.offset.cast_signed();
        let mut at = member("stage")?.offset.cast_signed() - scheduler;
        let mut stage = self.structure(member("stage")?.of_type?)?;
        for _ in 0..3 {
            if stage.discriminant.is_some() {
                break;
            }
            let only = stage.members.into_iter().next()?;
            at += only.offset.cast_signed();
            stage = self.structure(only.of_type?)?;
        }
        let discriminant = stage.discriminant?;
        let (value, running) = stage
            .variants
            .into_iter()
            .find(|(_, v)| v.name == "Running")?;
        let content = self.structure(running.of_type?)?;
        let future = content.members.into_iter().next()?;
        let offset = running.offset.checked_add(future.offset)?.cast_signed();
        Some(TaskFuture {
            from_scheduler: at + offset,
            stage: (
                at + discriminant.offset.cast_signed(),
                discriminant.size,
                value,
            ),
            future: self.future(future.of_type?)?,
        })
    }

    fn future(&mut self, place: Place) -> Option<TypeId> {
        // Each type is begun before those that it awaits, so that a circle ends.
        let (mut first, mut todo) = (None, vec![place]);
        while let Some(place) = todo.pop() {
            let id = self.begin(place)?;
            first = first.or(Some(id));
            if self.found.types[id].machine.is_some() || !self.is_machine(id) {
                continue;
            }
            self.found.types[id].machine = Some(Machine::default());
            let Some(structure) = self.structure(place) else {
                continue;
            };
            let mut machine = Machine {
                state: structure.discriminant.unwrap_or_default(),
                suspended: HashMap::new(),
            };
            for (value, variant) in structure.variants {
                let content = variant.of_type.and_then(|place| self.structure(place));
                let members = content.map(|content| content.members).unwrap_or_default();
                let awaitee = members
                    .into_iter()
                    .find(|member| member.name == "__awaitee");
                let (Some(value), Some(awaitee)) = (value, awaitee) else {
                    continue;
                };
                let at = variant.offset.saturating_add(awaitee.offset);
                let of_type = awaitee.of_type.and_then(|place| {
                    let id = self.begin(place)?;
                    todo.push(place);
                    Some((at, id))
                });
                let suspended = Suspended {
                    location: variant.location,
                    awaitee: of_type,
                };
                machine.suspended.insert(value, suspended);
            }
            self.found.types[id].machine = Some(machine);
        }
        first
    }

    fn is_machine(&self, id: TypeId) -> bool {
        let name = &self.found.types[id].name;
        let last = name.rsplit("::").next().unwrap_or(name);
        last.starts_with("{async_")
    }

    /// The id of a type, of which only the name may be known yet.
    fn begin(&mut self, place: Place) -> Option<TypeId> {
        if let Some(known) = self.known.get(&place) {
            return Some(*known);
        }
        if self.found.types.len() == MAX_TYPES {
            return None;
        }
        let name = self.name(place)?;
        self.found.types.push(FutureType {
            name,
            machine: None,
        });
        let id = self.found.types.len() - 1;
        self.known.insert(place, id);
        Some(id)
    }

    fn name(&self, (index, offset): Place) -> Option<String> {
        let unit = self.dwarf.unit(*self.headers.get(index)?).ok()?;
        let unit = unit.unit_ref(self.dwarf);
        let entry = unit.entry(offset).ok()?;
        let name = string(unit, &entry, dw::DW_AT_name)?;
        let paths = &self.paths[index];
        let after = paths.partition_point(|(from, _)| *from <= offset.0);
        let path = after.checked_sub(1).map_or("", |at| paths[at].1.as_str());
        Some(match path {
            "" => name,
            path => format!("{path}::{name}"),
        })
    }
}

/// What stands in the brackets of `head<...>`.
fn arguments(name: &str, head: &str) -> Option<String> {
    Some(name.strip_prefix(head)?.strip_suffix('>')?.to_owned())
}
