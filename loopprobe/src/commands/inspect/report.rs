//! The fields that `inspect` prints of each file, its sites and their vtables.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::watch::WatchReport;
use crate::{
    cache::Cache,
    elf::{FileOffset, Image, VirtAddr},
    model::{NameSource, TaskKind, TaskType},
    runtime::{
        DebugInfoLevel, Detail, Inspection, Mangling, RuntimeImage, SchedulePoint, ServedType, Site,
    },
};

/// All that `inspect` prints: `docs/inspect.md` describes it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub files: Vec<FileReport>,
}

/// A file with a runtime in it.
#[derive(Debug, Serialize)]
pub(super) struct FileReport {
    pub path: PathBuf,
    pub build_id: Option<String>,
    #[serde(skip)]
    pub runtime: &'static str,
    #[serde(rename = "tokio")]
    pub versions: Vec<String>,
    #[serde(rename = "tokio_source")]
    pub versions_source: &'static str,
    pub stripped: bool,
    pub mangling: Mangling,
    pub debug_info: DebugInfoLevel,
    pub debug_file: Option<PathBuf>,
    /// The part of the code that `.eh_frame` describes, 0 to 1.
    pub eh_frame_coverage: f64,
    /// What only its runtime has, for people.
    #[serde(skip)]
    pub words: Vec<(&'static str, String)>,
    #[serde(serialize_with = "as_map")]
    pub header: Vec<(&'static str, Detail)>,
    pub watch: WatchReport,
    pub schedule: Vec<ScheduleReport>,
    pub sites: Vec<SiteReport>,
}

/// Where tasks of a scheduler are scheduled; probed with `--lag`.
#[derive(Debug, Serialize)]
pub(super) struct ScheduleReport {
    pub scheduler: &'static str,
    pub offset: FileOffset,
    pub address: VirtAddr,
    /// Where the address of the task's header is then: a register, or memory behind what one holds.
    pub header: String,
    pub emulated: bool,
}

/// A function that polls tasks.
#[derive(Debug, Serialize)]
pub(super) struct SiteReport {
    pub offset: FileOffset,
    pub address: VirtAddr,
    pub entry: String,
    pub emulated: bool,
    pub kind: TaskKind,
    pub name: String,
    pub full_name: Option<String>,
    pub name_source: NameSource,
    pub certain: bool,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub column: Option<u32>,
    #[serde(rename = "crate")]
    pub krate: Option<String>,
    pub vtables: Vec<VtableReport>,
}

/// A task type that a site polls; several where the linker folded identical functions.
#[derive(Debug, Serialize)]
pub(super) struct VtableReport {
    pub address: VirtAddr,
    pub scheduler: &'static str,
    /// Bytes from the task's header to its trailer.
    pub size: u32,
    pub name: String,
    pub certain: bool,
}

impl FileReport {
    pub(super) fn new(found: &dyn RuntimeImage, file: &Image, cache: Cache) -> Self {
        let image = found.facts();
        let coverage = image.eh_frame;
        let Inspection { words, header } = found.inspection();
        Self {
            path: image.path.clone(),
            build_id: image.build_id.clone(),
            runtime: found.runtime().name(),
            versions: image.versions.clone(),
            versions_source: image.versions_source,
            stripped: image.stripped,
            mangling: image.mangling,
            debug_info: image.debug_info,
            debug_file: image.debug_file.clone(),
            eh_frame_coverage: coverage.covered as f64 / coverage.total.max(1) as f64,
            words,
            header,
            watch: WatchReport::new(cache.watch_words(file, found)),
            schedule: image
                .marks
                .schedule
                .iter()
                .map(ScheduleReport::new)
                .collect(),
            sites: image.sites.iter().filter_map(SiteReport::new).collect(),
        }
    }
}

impl ScheduleReport {
    fn new(point: &SchedulePoint) -> Self {
        Self {
            scheduler: point.scheduler,
            offset: point.offset,
            address: point.at.address,
            header: point.at.place(),
            emulated: point.at.emulated,
        }
    }

    /// For people.
    pub(super) fn words(&self) -> String {
        let slow = if self.emulated { "" } else { " (slow)" };
        format!(
            "{} at {:#x}, header in {}{slow}",
            self.scheduler, self.address, self.header
        )
    }
}

impl SiteReport {
    fn new(site: &Site) -> Option<Self> {
        let tasks = || site.types.iter().map(|served| &served.task);
        let best = tasks().min_by_key(|task| (!task.certain, task.name_source))?;
        let all_the_same = tasks().all(|task| task.name == best.name);
        let location = best.location.as_ref();
        Some(Self {
            offset: site.offset,
            address: site.address,
            entry: site.entry.mnemonic.clone(),
            emulated: site.entry.emulated,
            kind: kind(tasks()),
            name: if all_the_same {
                best.name.clone()
            } else {
                either(tasks())
            },
            full_name: best.full_name.clone().filter(|_| all_the_same),
            name_source: best.name_source,
            certain: tasks().all(|task| task.certain),
            file: location.map(|l| l.file.clone()).filter(|_| all_the_same),
            line: location.map(|l| l.line).filter(|_| all_the_same),
            column: location.and_then(|l| l.column).filter(|_| all_the_same),
            krate: best.krate.clone().filter(|_| all_the_same),
            vtables: site.types.iter().map(VtableReport::new).collect(),
        })
    }
}

fn as_map<S: Serializer>(
    details: &[(&'static str, Detail)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(details.iter().copied())
}

fn kind<'a>(mut tasks: impl Iterator<Item = &'a TaskType>) -> TaskKind {
    if tasks.all(|task| task.kind == TaskKind::Blocking) {
        TaskKind::Blocking
    } else {
        TaskKind::Async
    }
}

fn either<'a>(tasks: impl Iterator<Item = &'a TaskType>) -> String {
    let mut names: Vec<_> = tasks.map(|task| task.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(" or ")
}

impl VtableReport {
    fn new(served: &ServedType) -> Self {
        Self {
            address: served.key,
            scheduler: served.scheduler,
            size: served.size,
            name: served.task.name.clone(),
            certain: served.task.certain,
        }
    }
}
