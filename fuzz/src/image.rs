use std::path::Path;

use loopprobe::{elf::Image, runtime::tokio::discover};

/// An ELF file: headers, sections, relocations, symbols, debug information, the search for task types and their names.
pub fn image(bytes: &[u8]) {
    if let Ok(image) = Image::parse(Path::new("fuzzed"), bytes.to_vec()) {
        let _ = discover(&image);
    }
}
