//! Reads the few things that names need out of DWARF: the functions at some addresses, and where
//! bodies of async functions, blocks and closures are defined.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use gimli::{
    AttributeValue, DebuggingInformationEntry, Dwarf, DwarfSections, EndianSlice, LittleEndian,
    SectionId, UnitHeader, UnitRef, constants as dw,
};

use super::rust_path::without_arguments;
use crate::{
    elf::{Sections, VirtAddr},
    model::SourceLocation,
    runtime::DebugInfoLevel,
};

/// Entries looked at before giving up: some seconds' work, several times what a large service
/// needs.
const MAX_ENTRIES: usize = 20_000_000;
/// The same for units: each can have a large table of abbreviations to itself, or share it, which
/// takes as long.
const TIME_LIMIT: Duration = Duration::from_secs(20);
const MAX_STRING: usize = 1 << 14;
/// Functions and bodies kept.
const MAX_KEPT: usize = 1 << 20;

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;
pub(super) type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;

/// The body of an async function, async block or closure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    /// Where it is defined.
    pub location: Option<SourceLocation>,
    /// Its symbol.
    pub linkage_name: Option<String>,
}

/// What debug information says about the functions of task vtables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DebugInfo {
    level: DebugInfoLevel,
    functions: HashMap<VirtAddr, Vec<String>>,
    bodies: HashMap<String, Body>,
    /// Where async functions and blocks begin.
    definitions: BTreeSet<(String, u32)>,
}

impl DebugInfo {
    /// Reads the debug information in `sections` about the functions that begin at `wanted`, and
    /// the bodies in their crates. What is malformed is left out.
    pub(crate) fn read(sections: &Sections, wanted: &HashSet<VirtAddr>) -> Self {
        let mut info = Self::default();
        if !sections.has(".debug_info") {
            return info;
        }
        info.level = DebugInfoLevel::LineTables;
        let load = |id: SectionId| {
            Ok::<_, crate::elf::ElfError>(sections.data(id.name())?.unwrap_or_default())
        };
        let Ok(bytes) = DwarfSections::load(load) else {
            return info;
        };
        let dwarf = bytes.borrow(|section| EndianSlice::new(section, LittleEndian));
        let mut budget = MAX_ENTRIES;
        let deadline = Instant::now() + TIME_LIMIT;
        for header in units_to_read(&dwarf, wanted, deadline) {
            if Instant::now() > deadline {
                break;
            }
            // A malformed unit ends itself, not the others.
            let _ = info.read_unit(&dwarf, header, wanted, &mut budget);
        }
        info
    }

    /// How much there is.
    pub(crate) fn level(&self) -> DebugInfoLevel {
        self.level
    }

    /// The names, with generic arguments, of the functions that begin at `address`.
    pub(crate) fn functions_at(&self, address: VirtAddr) -> &[String] {
        self.functions.get(&address).map_or(&[], Vec::as_slice)
    }

    /// The body with this path, such as `app::upload::{async_fn#0}`.
    pub(crate) fn body(&self, path: &str) -> Option<&Body> {
        self.bodies.get(path)
    }

    /// Whether an async function or block of `file` begins on one of `lines`.
    pub(crate) fn has_definition(&self, file: &str, lines: RangeInclusive<u32>) -> bool {
        let (first, last) = lines.into_inner();
        let at = |line| (file.to_owned(), line);
        first <= last
            && self
                .definitions
                .range(at(first)..=at(last))
                .next()
                .is_some()
    }

    fn read_unit(
        &mut self,
        dwarf: &Dwarf<Slice<'_>>,
        header: UnitHeader<Slice<'_>>,
        wanted: &HashSet<VirtAddr>,
        budget: &mut usize,
    ) -> gimli::Result<()> {
        let unit = dwarf.unit(header)?;
        let unit = unit.unit_ref(dwarf);
        let mut namespaces: Vec<(isize, String)> = Vec::new();
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs()? {
            if *budget == 0 || self.functions.len() + self.bodies.len() > MAX_KEPT {
                break;
            }
            *budget -= 1;
            while namespaces
                .last()
                .is_some_and(|(depth, _)| *depth >= entry.depth())
            {
                namespaces.pop();
            }
            match entry.tag() {
                dw::DW_TAG_namespace => {
                    let name = string(unit, entry, dw::DW_AT_name).unwrap_or_default();
                    namespaces.push((entry.depth(), name));
                }
                dw::DW_TAG_structure_type => self.level = DebugInfoLevel::Full,
                dw::DW_TAG_subprogram => self.read_function(unit, entry, &namespaces, wanted),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_function<'a>(
        &mut self,
        unit: UnitRef<'_, Slice<'a>>,
        entry: &Entry<'a>,
        namespaces: &[(isize, String)],
        wanted: &HashSet<VirtAddr>,
    ) {
        let address = low_pc(unit, entry).filter(|address| wanted.contains(address));
        let own_name = string(unit, entry, dw::DW_AT_name);
        if let Some(address) = address
            && let Some(name) = own_name.clone().or_else(|| origin_name(unit, entry))
        {
            if name.contains('<') {
                self.level = self.level.max(DebugInfoLevel::Limited);
            }
            let names = self.functions.entry(address).or_default();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if let Some(name) =
            own_name.filter(|name| name.starts_with("{async_") || name.starts_with("{closure"))
        {
            let path = namespaces
                .iter()
                .map(|(_, name)| name.as_str())
                .chain([without_arguments(&name)]);
            let path = path.collect::<Vec<_>>().join("::");
            let location = location(unit, entry);
            if let Some(location) = location.as_ref().filter(|_| name.starts_with("{async_")) {
                self.definitions
                    .insert((location.file.clone(), location.line));
            }
            self.bodies.entry(path).or_insert_with(|| Body {
                location,
                linkage_name: string(unit, entry, dw::DW_AT_linkage_name),
            });
        }
    }
}

/// The units that hold a wanted function, and the others of the same crates: a body can lie in any
/// of them.
fn units_to_read<'a>(
    dwarf: &Dwarf<Slice<'a>>,
    wanted: &HashSet<VirtAddr>,
    deadline: Instant,
) -> Vec<UnitHeader<Slice<'a>>> {
    let mut units = dwarf.units();
    let (mut found, mut crates) = (Vec::new(), HashSet::new());
    let mut sorted: Vec<_> = wanted.iter().map(|address| address.0).collect();
    sorted.sort_unstable();
    while let Ok(Some(header)) = units.next() {
        if Instant::now() > deadline {
            break;
        }
        let Ok(unit) = dwarf.unit(header) else {
            continue;
        };
        let unit = unit.unit_ref(dwarf);
        let crate_name = crate_of(unit);
        let holds_wanted = holds_any(unit, &sorted);
        if holds_wanted {
            crates.insert(crate_name.clone());
        }
        found.push((header, crate_name, holds_wanted));
        if found.len() == MAX_KEPT {
            break;
        }
    }
    let same_crate = |name: &Option<String>| name.is_some() && crates.contains(name);
    found
        .into_iter()
        .filter(|(_, name, hit)| *hit || same_crate(name))
        .map(|(header, ..)| header)
        .collect()
}

/// The crate of a unit: rustc names them `src/main.rs/@/app.0123456789abcdef-cgu.0`.
fn crate_of(unit: UnitRef<'_, Slice<'_>>) -> Option<String> {
    let name = unit.name.as_ref()?.to_string().ok()?;
    let (_, object) = name.rsplit_once("/@/")?;
    Some(object.split_once('.')?.0.to_owned())
}

fn holds_any(unit: UnitRef<'_, Slice<'_>>, sorted: &[u64]) -> bool {
    let Ok(mut ranges) = unit.unit_ranges() else {
        return false;
    };
    while let Ok(Some(range)) = ranges.next() {
        let first = sorted.partition_point(|address| *address < range.begin);
        if sorted
            .get(first)
            .is_some_and(|address| *address < range.end)
        {
            return true;
        }
    }
    false
}

pub(super) fn low_pc<'a>(unit: UnitRef<'_, Slice<'a>>, entry: &Entry<'a>) -> Option<VirtAddr> {
    let value = entry.attr_value(dw::DW_AT_low_pc)?;
    unit.attr_address(value).ok().flatten().map(VirtAddr)
}

pub(super) fn string<'a>(
    unit: UnitRef<'_, Slice<'a>>,
    entry: &Entry<'a>,
    attribute: gimli::DwAt,
) -> Option<String> {
    let text = unit.attr_string(entry.attr_value(attribute)?).ok()?;
    (text.len() <= MAX_STRING).then(|| text.to_string_lossy().into_owned())
}

/// The name of the declaration that a concrete function refers to.
fn origin_name<'a>(unit: UnitRef<'_, Slice<'a>>, entry: &Entry<'a>) -> Option<String> {
    let origin = entry
        .attr_value(dw::DW_AT_abstract_origin)
        .or_else(|| entry.attr_value(dw::DW_AT_specification))?;
    let AttributeValue::UnitRef(offset) = origin else {
        return None;
    };
    let entry = unit.entry(offset).ok()?;
    string(unit, &entry, dw::DW_AT_name)
}

pub(super) fn location<'a>(
    unit: UnitRef<'_, Slice<'a>>,
    entry: &Entry<'a>,
) -> Option<SourceLocation> {
    let AttributeValue::FileIndex(file) = entry.attr_value(dw::DW_AT_decl_file)? else {
        return None;
    };
    let line = entry.attr_value(dw::DW_AT_decl_line)?.udata_value()?;
    Some(SourceLocation {
        file: file_name(unit, file)?,
        line: u32::try_from(line).ok()?,
        column: None,
    })
}

/// A file's path as the compiler was given it: relative to the directory in which it ran, or
/// absolute.
fn file_name(unit: UnitRef<'_, Slice<'_>>, index: u64) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(index)?;
    let text = |value| {
        unit.attr_string(value)
            .ok()
            .map(|text: Slice<'_>| text.to_string_lossy().into_owned())
    };
    let name = text(file.path_name())?;
    let directory = match file.directory_index() {
        0 => String::new(),
        _ => text(file.directory(header)?)?,
    };
    let compiled_in = unit
        .comp_dir
        .as_ref()
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default();
    let directory = directory
        .strip_prefix(&compiled_in)
        .map_or(&*directory, |rest| rest.trim_start_matches('/'));
    let path = if directory.is_empty() {
        name
    } else {
        format!("{directory}/{name}")
    };
    (path.len() <= MAX_STRING).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_until_the_time_is_up() {
        // All units share one table of abbreviations, which is read for each: some minutes' work.
        let (units, codes) = (100_000, 0x3f_ff_u16);
        let unit = [8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8, 0];
        let info = unit.repeat(units);
        let abbreviation = |code: u16| [code as u8 | 0x80, (code >> 7) as u8, 0x24, 0, 0, 0];
        let abbreviations: Vec<u8> = (0x80..=codes).flat_map(abbreviation).collect();
        let dwarf = Dwarf::load(|id| {
            let bytes: &[u8] = match id {
                SectionId::DebugInfo => &info,
                SectionId::DebugAbbrev => &abbreviations,
                _ => &[],
            };
            Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
        })
        .unwrap();
        let started = Instant::now();
        let deadline = started + Duration::from_millis(50);
        units_to_read(&dwarf, &HashSet::new(), deadline);
        assert!(started.elapsed() < Duration::from_secs(5));
        let header = dwarf.units().next().unwrap().unwrap();
        assert!(dwarf.abbreviations(&header).is_ok());
    }
}
