//! What is known of the file that a frame's code lies in: its crates, whose they are, and V8.

use std::collections::{HashMap, HashSet};

use memchr::memmem;

use crate::{
    code::{panic_location, references, registry_crate},
    elf::{Image, VirtAddr},
};

/// What is known of the file that a frame's code lies in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    /// The crates whose sources its panic locations name with a version: they come from a registry.
    pub dependencies: HashSet<String>,
    /// The crates whose code refers to the program's own source files; empty where no names tell.
    /// Others are among them, where the program's own code is inlined into theirs.
    pub own: HashSet<String>,
    /// Where the standard library's own code begins, which linkers put behind all else.
    pub std_from: Option<VirtAddr>,
}

/// So many functions behind all others must refer to the standard library before it is believed
/// that they are it.
const STD_REFERENCES: usize = 100;

impl Origins {
    /// Reads where a file's panic locations lie, and which code refers to them. `krate` names the
    /// crates of the function that begins at an address.
    pub(crate) fn of(image: &Image, krate: impl Fn(VirtAddr) -> Vec<String>) -> Self {
        let mut dependencies = HashSet::new();
        let mut is_std = HashMap::new();
        let mut own = HashSet::new();
        for (address, _) in image.pointers() {
            let Some(location) = panic_location(image, address) else {
                continue;
            };
            let registry = registry_crate(&location.file);
            let bundled = location.file.starts_with("/rust/deps/");
            is_std.insert(address, bundled || registry == Some("std"));
            match registry.filter(|_| !bundled) {
                Some(folder) => {
                    dependencies.insert(crate_name(folder));
                }
                None if !bundled && !location.file.contains("git/checkouts/") => {
                    own.insert(address);
                }
                None => {}
            }
        }
        let targets = is_std.keys().copied().collect();
        let found = references(image, &targets);
        let last_other = found
            .iter()
            .filter(|(_, target)| is_std.get(target) == Some(&false))
            .map(|(at, _)| *at)
            .max();
        let std_from = last_other
            .and_then(|at| image.function_at(at))
            .map(|function| function.end)
            .filter(|end| found.iter().filter(|(at, _)| at >= end).count() >= STD_REFERENCES);
        let refers = found.iter().filter(|(_, target)| own.contains(target));
        let functions = refers.filter_map(|(at, _)| Some(image.function_at(*at)?.start));
        let functions: HashSet<VirtAddr> = functions.collect();
        Self {
            dependencies,
            own: functions.into_iter().flat_map(krate).collect(),
            std_from,
        }
    }
}

/// `hyper_util` of `hyper-util-0.1.20`.
pub(super) fn crate_name(folder: &str) -> String {
    folder
        .split('-')
        .take_while(|part| !part.starts_with(|first: char| first.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join("_")
}

/// Whether a file holds the interpreter of JavaScript: V8 keeps the names of what it is made of
/// (`src/builtins/builtins.cc`, `builtin_metadata`).
pub(crate) fn holds_v8(image: &Image) -> bool {
    // Put together here, or this program would seem to hold it too.
    let name = ["\0Interpreter", "Entry", "Trampoline\0"].concat();
    let name = memmem::Finder::new(&name);
    image.data_ranges().any(|range| {
        let mut pieces = image.pieces(range, 0, name.needle().len() - 1);
        while let Some(piece) = pieces.next() {
            if name.find(piece.bytes).is_some() {
                return true;
            }
        }
        false
    })
}
