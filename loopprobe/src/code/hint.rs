//! A source file that a function probably comes from: the commonest of its panic locations.

use std::{collections::HashMap, ops::Range};

use super::{by_architecture::referred, panic_location, registry_crate};
use crate::{
    elf::{Image, VirtAddr},
    model::SourceLocation,
};

/// Larger functions are looked at no further.
const MAX_LOOKED_AT: u64 = 1 << 20;

/// A source file that `function` probably comes from: the commonest one among the panic locations
/// that its code refers to, and the first of its lines there. Inlining brings in others, so this is
/// a hint and never certain.
///
/// The standard library's files count only where there are no others: its code is inlined
/// everywhere.
pub fn near(image: &Image, function: Range<VirtAddr>) -> Option<SourceLocation> {
    let locations = locations_in(image, function);
    let is_std = |location: &&SourceLocation| registry_crate(&location.file) == Some("std");
    commonest(locations.iter().filter(|location| !is_std(location)))
        .or_else(|| commonest(locations.iter()))
        .cloned()
}

/// The panic locations that the code of `function` refers to, those of inlined code among them.
pub fn locations_in(image: &Image, function: Range<VirtAddr>) -> Vec<SourceLocation> {
    let end = VirtAddr(
        function
            .end
            .0
            .min(function.start.0.saturating_add(MAX_LOOKED_AT)),
    );
    referred(image, &(function.start..end))
        .into_iter()
        .filter_map(|address| panic_location(image, address))
        .collect()
}

fn commonest<'a>(
    locations: impl Iterator<Item = &'a SourceLocation>,
) -> Option<&'a SourceLocation> {
    let mut files: HashMap<&str, (usize, &SourceLocation)> = HashMap::new();
    for location in locations {
        let (count, first) = files.entry(&location.file).or_insert((0, location));
        *count += 1;
        if location.line < first.line {
            *first = location;
        }
    }
    // Equal counts are decided by the path, so that the answer does not change from run to run.
    let best = files
        .into_values()
        .max_by(|(a, at), (b, bt)| a.cmp(b).then_with(|| bt.file.cmp(&at.file)))?;
    Some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, line: u32) -> SourceLocation {
        SourceLocation {
            file: file.into(),
            line,
            column: Some(1),
        }
    }

    #[test]
    fn the_commonest_file_wins_with_its_first_line() {
        let locations = [at("src/b.rs", 9), at("src/a.rs", 3), at("src/b.rs", 4)];
        assert_eq!(commonest(locations.iter()), Some(&locations[2]));
    }

    #[test]
    fn nothing_gives_no_hint() {
        assert_eq!(commonest([].iter()), None);
    }
}
