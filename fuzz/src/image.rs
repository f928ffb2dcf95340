//! Parses bytes as an ELF image and discovers Tokio's task types in it.

use std::path::Path;

use loopprobe::{
    elf::Image,
    runtime::{RuntimeImage as _, tokio::discover},
};

/// An ELF file: headers, sections, relocations, symbols, debug information, the search for task
/// types, their names, and what tells that a thread polls one.
pub fn image(bytes: &[u8]) {
    if let Ok(image) = Image::parse(Path::new("fuzzed"), bytes.to_vec()) {
        if let Ok(found) = discover(&image) {
            let _ = found.watch_words(&image);
        }
    }
}
