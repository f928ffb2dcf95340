//! What loopprobe is fuzzed with: a function for each kind of input that others write. Each takes
//! any bytes, and none may panic, hang or take much memory.
//!
//! libFuzzer calls them through `fuzz_targets/`; the test `fuzz_corpus` calls them with the kept
//! inputs in `corpus/`.

mod code;
mod file;
mod image;
mod maps;
mod names;
mod recording;
mod symbolize;
mod unwind;

pub use code::code;
pub use image::image;
pub use maps::maps;
pub use names::{names, symbols};
pub use recording::recording;
pub use symbolize::symbolize;
pub use unwind::unwind;

/// One kind of input: the name of its program and its corpus, and what is done with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("image", image),
    ("code", code),
    ("unwind", unwind),
    ("symbolize", symbolize),
    ("maps", maps),
    ("names", names),
    ("symbols", symbols),
    ("recording", recording),
];
