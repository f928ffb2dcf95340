use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    HeaderLayout, LoopSymbols, Scheduler, Site, TokioImage, Vtable,
    entry::probe_point,
    version::{self, Version},
    vtable::{self, RawVtable, VtableLayout},
};
use crate::{
    elf::{Image, VirtAddr},
    model::{NameSource, TaskKind, TaskType},
};

/// Why an image has no poll sites.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// No task vtable and no trace of Tokio.
    #[error(
        "{path} does not contain Tokio's runtime; if a shared object brings it, name that file, or use --pid to look at \
         all files of a process"
    )]
    NoTokio {
        /// The file.
        path: PathBuf,
    },
    /// Tokio is there, but its tasks cannot be found without symbols.
    #[error(
        "{path} contains Tokio {versions}, but no task types were found; versions before 1.21 need the symbol table: \
         give an unstripped copy with --debug-file"
    )]
    NeedsSymbols {
        /// The file.
        path: PathBuf,
        /// The versions found.
        versions: String,
    },
}

/// Finds all poll sites of an image.
///
/// # Errors
/// When the image holds no task type of Tokio's.
pub fn discover(image: &Image) -> Result<TokioImage, DiscoverError> {
    let versions = version::from_locations(image);
    let vtables = find_vtables(image, &versions);
    if vtables.is_empty() {
        return Err(nothing_found(image, &versions));
    }
    let header = HeaderLayout {
        state: 0,
        vtable: 0x10,
        unstable: vtables
            .iter()
            .any(|v| v.layout == VtableLayout::Seven { unstable: true }),
    };
    let (tokio, tokio_source) = name_versions(&versions, &vtables);
    Ok(TokioImage {
        path: image.path().into(),
        build_id: image.build_id().map(str::to_owned),
        tokio,
        tokio_source,
        header,
        stripped: true,
        text: image
            .executable_ranges()
            .map(|range| (range.start, range.end.0 - range.start.0))
            .collect(),
        sites: sites(image, vtables),
        loop_symbols: LoopSymbols::default(),
    })
}

fn nothing_found(image: &Image, versions: &BTreeSet<Version>) -> DiscoverError {
    let path = image.path().into();
    if versions.is_empty() {
        return DiscoverError::NoTokio { path };
    }
    let versions = versions
        .iter()
        .map(Version::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    DiscoverError::NeedsSymbols { path, versions }
}

fn find_vtables(image: &Image, versions: &BTreeSet<Version>) -> Vec<RawVtable> {
    let mut found = vtable::scan(image);
    let is_eight = |v: &Version| (Version(1, 21, 0)..Version(1, 23, 0)).contains(v);
    if versions.iter().any(is_eight) {
        found.extend(vtable::scan_eight(image));
    }
    found
}

/// Tokio's versions and how they are known; without panic locations, the range that the vtables' structure allows.
fn name_versions(versions: &BTreeSet<Version>, vtables: &[RawVtable]) -> (Vec<String>, String) {
    if !versions.is_empty() {
        return (
            versions.iter().map(Version::to_string).collect(),
            "locations".into(),
        );
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
    (vec![range.into()], "structure".into())
}

/// Groups vtables by where their poll function is probed.
fn sites(image: &Image, vtables: Vec<RawVtable>) -> Vec<Site> {
    let mut sites: BTreeMap<_, Site> = BTreeMap::new();
    for raw in vtables {
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
            vtables: Vec::new(),
        });
        site.vtables.push(unnamed(&raw));
    }
    sites.into_values().collect()
}

/// A vtable whose task type has no name but its place and size.
fn unnamed(raw: &RawVtable) -> Vtable {
    let is_async = raw.scheduler_size().is_none_or(|size| size == 8);
    let (kind, scheduler) = if is_async {
        (TaskKind::Async, Scheduler::Unknown)
    } else {
        (TaskKind::Blocking, Scheduler::Blocking)
    };
    let size = raw.trailer_offset.unwrap_or(0);
    Vtable {
        address: raw.address,
        poll: raw.poll,
        schedule: raw.schedule.unwrap_or(VirtAddr(0)),
        dealloc: raw.dealloc,
        trailer_offset: size,
        scheduler_offset: raw.scheduler_offset.unwrap_or(0),
        id_offset: raw.id_offset.unwrap_or(0),
        scheduler,
        task: TaskType {
            name: format!("task type @{:#x} ({size} bytes)", raw.address),
            full_name: None,
            name_source: NameSource::None,
            certain: false,
            kind,
            location: None,
            krate: None,
        },
    }
}
