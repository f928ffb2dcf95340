//! Walks up to 64 functions of an ELF file for async definitions, panic locations and hints.

use std::path::Path;

use loopprobe::{
    code::{StateMachines, locations_near, near},
    elf::{Image, VirtAddr},
};

/// The functions of one file that are looked at.
const MAX_FUNCTIONS: usize = 64;
/// As far as the search for a scheduler goes.
const MAX_CALLS: u32 = 3;

/// An ELF file whose functions' code is walked, for definitions of async functions, panic locations
/// and hints.
pub fn code(bytes: &[u8]) {
    let Ok(image) = Image::parse(Path::new("fuzzed"), bytes.to_vec()) else {
        return;
    };
    let mut machines = StateMachines::default();
    for (start, end) in image.functions().iter().take(MAX_FUNCTIONS) {
        let _ = machines.outermost(&image, start);
        let _ = machines.within(&image, start..end);
        let middle = VirtAddr(start.0 + (end.0 - start.0) / 2);
        let _ = machines.completions(&image, start..end, middle);
        let _ = locations_near(&image, start, MAX_CALLS);
        let _ = near(&image, start..end);
    }
}
