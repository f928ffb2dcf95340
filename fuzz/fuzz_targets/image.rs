//! Any bytes given as an ELF file end in an error or a result.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use loopprobe::{elf::Image, runtime::tokio::discover};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = Image::parse(Path::new("fuzzed"), bytes.to_vec()) {
        let _ = discover(&image);
    }
});
