//! What is known of a file with a runtime in it, whichever runtime that is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{LoopMarks, Site};
use crate::elf::{Image, VirtAddr};

/// What a file holds of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// The file.
    pub path: PathBuf,
    /// Its GNU build id, in hexadecimal.
    pub build_id: Option<String>,
    /// The runtime's versions; normally one.
    pub versions: Vec<String>,
    /// How the versions are known, in a word (Tokio: `locations`, or `structure`, then a range).
    pub versions_source: &'static str,
    /// Whether the runtime's code tells which source files it comes from
    /// ([`super::Runtime::loop_code`]).
    pub tells_sources: bool,
    /// Whether it has no symbol table.
    pub stripped: bool,
    /// How its symbols are mangled.
    pub mangling: Mangling,
    /// How much debug information it, or its separate debug file, has.
    pub debug_info: DebugInfoLevel,
    /// The separate debug file that was used.
    pub debug_file: Option<PathBuf>,
    /// How much of the code can be unwound.
    pub eh_frame: CodeCoverage,
    /// Executable segments, as (virtual address, size): a return address in one of them belongs to
    /// this image.
    pub text: Vec<(VirtAddr, u64)>,
    /// All sites, by offset.
    pub sites: Vec<Site>,
    /// Whether their types have the names that the file gives; a sketch may be without
    /// ([`super::Runtime::sketch`]).
    pub is_named: bool,
    /// How many of them are functions that `.eh_frame` describes.
    pub described_sites: usize,
    /// What marks a turn of the loop itself.
    pub marks: LoopMarks,
}

impl ImageFacts {
    /// What is known of a file with these sites, whichever runtime they are; nothing of versions,
    /// names and symbols.
    pub fn of(image: &Image, sites: Vec<Site>) -> Self {
        let ranges = image.executable_ranges();
        let text: Vec<_> = ranges
            .map(|range| (range.start, range.end.0 - range.start.0))
            .collect();
        let described = |site: &&Site| image.functions().at(site.address).is_some();
        Self {
            path: image.path().into(),
            build_id: image.build_id().map(str::to_owned),
            versions: Vec::new(),
            versions_source: "unknown",
            tells_sources: false,
            stripped: true,
            mangling: Mangling::None,
            debug_info: DebugInfoLevel::None,
            debug_file: None,
            eh_frame: CodeCoverage {
                covered: image.functions().covered(),
                total: text.iter().map(|(_, size)| size).sum(),
            },
            text,
            described_sites: sites.iter().filter(described).count(),
            sites,
            is_named: true,
            marks: LoopMarks::default(),
        }
    }
}

/// How the image's Rust symbols are mangled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mangling {
    /// It has no symbols.
    None,
    /// `_ZN`: the default up to Rust 1.96.
    Legacy,
    /// `_R`: spells types in full.
    V0,
    /// Both: the standard library's symbols are v0 earlier than the others.
    Mixed,
}

/// How much debug information there is, in the words of Cargo's `debug` setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DebugInfoLevel {
    /// None.
    #[default]
    None,
    /// `line-tables-only`: no types, no generic arguments.
    LineTables,
    /// `debug = 1`: functions with their generic arguments.
    Limited,
    /// `debug = 2`: types as well.
    Full,
}

/// How much of the code `.eh_frame` describes, so that stacks can be unwound through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeCoverage {
    /// Bytes of code in functions that it describes.
    pub covered: u64,
    /// Bytes of executable segments.
    pub total: u64,
}

/// What only one runtime has of a file, for `inspect` to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// For people: what it is, and how.
    pub words: Vec<(&'static str, String)>,
    /// For programs: where a task's header keeps what is read from outside, by field.
    pub header: Vec<(&'static str, Detail)>,
}

/// One fact of an [`Inspection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Detail {
    /// A distance in bytes.
    Bytes(u32),
    /// Yes or no.
    Flag(bool),
}
