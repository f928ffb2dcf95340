//! Names addresses of an ELF file by debug information and by the hints in its code.

use std::{path::Path, sync::Arc};

use loopprobe::{
    elf::{Image, ProcAddr, VirtAddr},
    symbolize::Symbolizer,
    unwind::{Means, Module, RawFrame},
};

use crate::file::{file, mapping};

/// The functions whose addresses are looked up.
const MAX_FUNCTIONS: usize = 32;
/// The addresses of each executable segment that are looked up as well.
const PLACES: u64 = 16;
const PAGE: u64 = 4096;

/// An ELF file with symbols and debug information, by which addresses get names: the code's own
/// hints, and blazesym.
pub fn symbolize(bytes: &[u8]) {
    let Ok(image) = Image::parse(Path::new("fuzzed"), bytes.to_vec()) else {
        return;
    };
    let Some(code) = image.executable_ranges().next() else {
        return;
    };
    let Some(offset) = image.file_offset(code.start) else {
        return;
    };
    let mapping = mapping(1 << 32, bytes.len() as u64, offset.0 & !(PAGE - 1));
    let Some(module) = Module::of_file(0, file(bytes), &mapping).map(Arc::new) else {
        return;
    };
    let frames: Vec<_> = addresses(&image)
        .into_iter()
        .map(|address| RawFrame {
            by: Means::CallFrames,
            address: ProcAddr(address.0.wrapping_add(module.bias())),
            cfa: None,
            module: Some(Arc::clone(&module)),
        })
        .collect();
    let named = Symbolizer::new(&[]).frames(&frames);
    assert!(named.len() >= frames.len());
}

fn addresses(image: &Image) -> Vec<VirtAddr> {
    let functions = image.functions().iter().take(MAX_FUNCTIONS);
    let places = image.executable_ranges().take(4).flat_map(|range| {
        let len = range.end.0 - range.start.0;
        (0..PLACES).map(move |place| VirtAddr(range.start.0 + len / PLACES * place))
    });
    functions.map(|(start, _)| start).chain(places).collect()
}
