//! Whether a function of the runtime's that runs a loop is on a stack.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::gap::Place;
use crate::{
    attach::PlannedImage,
    code::locations_in,
    elf::{Image, VirtAddr},
    model::Outcome,
    unwind::{Module, RawFrame, Unwound},
};

/// The code of the images with Tokio in them.
#[derive(Debug, Default)]
pub struct RuntimeCode {
    /// By path: whether the image's code tells which source files it comes from.
    images: HashMap<PathBuf, bool>,
    /// By module.
    code: HashMap<u32, Option<Image>>,
    /// By module and beginning: whether the function has code of the loop's in it.
    functions: HashMap<(u32, VirtAddr), bool>,
}

impl RuntimeCode {
    /// Of the files that are probed.
    pub fn of(planned: &[PlannedImage]) -> Self {
        let images = planned.iter().filter_map(|planned| planned.tokio.as_ref());
        Self {
            images: images
                .map(|image| (image.path.clone(), image.tokio_source == "locations"))
                .collect(),
            ..Self::default()
        }
    }

    /// What a stack shows that was walked to the thread's first function.
    pub fn place(&mut self, unwound: &Unwound) -> Place {
        if unwound.frames.iter().any(|frame| self.is_loop(frame)) {
            return Place::Inside;
        }
        let known = unwound.frames.iter().all(|frame| frame.module.is_some());
        if unwound.outcome == Outcome::Complete && known {
            Place::Outside
        } else {
            Place::Unknown
        }
    }

    /// Whether a frame's function has code of the loop's in it. Of an image that does not tell, each may have.
    fn is_loop(&mut self, frame: &RawFrame) -> bool {
        let Some(module) = &frame.module else {
            return false;
        };
        let Some(tells) = self.images.get(module.path()) else {
            return false;
        };
        let function = module.function_at(module.virt(frame.address));
        let (true, Some(function)) = (*tells, function) else {
            return true;
        };
        let key = (module.id(), function.start);
        if let Some(known) = self.functions.get(&key) {
            return *known;
        }
        let image = self.code.entry(module.id()).or_insert_with(|| read(module));
        let is_loop = image.as_ref().is_none_or(|image| {
            let mut locations = locations_in(image, function).into_iter();
            locations.any(|location| is_loop_source(&location.file))
        });
        self.functions.insert(key, is_loop);
        is_loop
    }
}

fn read(module: &Module) -> Option<Image> {
    let file = module.file()?.try_clone().ok()?;
    Image::from_file(file, Path::new(module.path())).ok()
}

/// Whether a source file is one of those with `block_on` and what it calls to poll its future, all of which can panic: Tokio 1.24
/// to 1.54 (`runtime/scheduler`, `runtime/context`, `runtime/park.rs`), and before (`runtime/enter.rs`, `park/thread.rs`).
fn is_loop_source(file: &str) -> bool {
    const FILES: &[&str] = &[
        "/src/runtime/scheduler/",
        "/src/runtime/context",
        "/src/runtime/park.rs",
        "/src/runtime/runtime.rs",
        "/src/runtime/enter.rs",
        "/src/park/thread.rs",
    ];
    file.contains("tokio") && FILES.iter().any(|part| file.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_the_loop_are_told_from_others() {
        assert!(is_loop_source(
            "/r/tokio-1.54.1/src/runtime/scheduler/current_thread/mod.rs"
        ));
        assert!(is_loop_source("vendor/tokio/src/runtime/park.rs"));
        assert!(!is_loop_source("/r/tokio-1.54.1/src/time/sleep.rs"));
        assert!(!is_loop_source("/r/other-1.0.0/src/runtime/park.rs"));
    }
}
