//! Whether a function of the runtime's that runs a loop is on a stack.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::gap::Place;
use crate::{
    attach::PlannedImage,
    code::locations_in,
    elf::{Image, VirtAddr},
    model::Outcome,
    runtime::RuntimeImage,
    unwind::{Module, RawFrame, Unwound},
};

/// The code of the images with a runtime in them.
#[derive(Debug, Default)]
pub(super) struct RuntimeCode {
    /// By path: the runtimes there.
    images: HashMap<PathBuf, Vec<Arc<dyn RuntimeImage>>>,
    /// By module.
    code: HashMap<u32, Option<Arc<Image>>>,
    /// By module and beginning: whether the function has code of the loop's in it; `None` where
    /// its image does not tell.
    functions: HashMap<(u32, VirtAddr), Option<bool>>,
}

impl RuntimeCode {
    /// Of the files that are probed.
    pub(super) fn of(planned: &[PlannedImage]) -> Self {
        let mut code = Self::default();
        for image in planned
            .iter()
            .filter_map(|planned| planned.runtime.as_ref())
        {
            let path = image.facts().path.clone();
            code.images.entry(path).or_default().push(Arc::clone(image));
        }
        code
    }

    /// What a stack shows that was walked to the thread's first function.
    pub(super) fn place(&mut self, unwound: &Unwound) -> Place {
        let mut known = unwound.outcome == Outcome::Complete;
        for frame in &unwound.frames {
            match self.is_loop(frame) {
                Some(true) => return Place::Inside,
                Some(false) => {}
                None => known = false,
            }
        }
        if known {
            Place::Outside
        } else {
            Place::Unknown
        }
    }

    /// Whether a frame's function has code of the loop's in it; `None` where that is not known.
    fn is_loop(&mut self, frame: &RawFrame) -> Option<bool> {
        let module = frame.module.as_ref()?;
        let Some(runtimes) = self.images.get(module.path()) else {
            return Some(false);
        };
        let tells = runtimes.iter().all(|image| image.facts().tells_sources);
        let function = module.function_at(module.virt(frame.address));
        let (true, Some(function)) = (tells, function) else {
            return None;
        };
        let key = (module.id(), function.start);
        if let Some(known) = self.functions.get(&key) {
            return *known;
        }
        let image = self.code.entry(module.id()).or_insert_with(|| read(module));
        let is_loop = image.as_mut().map(|image| {
            *image = image.lightened();
            let mut locations = locations_in(image, function).into_iter();
            locations.any(|location| is_loop_source(runtimes, &location.file))
        });
        self.functions.insert(key, is_loop);
        is_loop
    }
}

fn read(module: &Module) -> Option<Arc<Image>> {
    let file = module.file()?.try_clone().ok()?;
    Image::shared(file, Path::new(module.path())).ok()
}

fn is_loop_source(runtimes: &[Arc<dyn RuntimeImage>], file: &str) -> bool {
    let mut runtimes = runtimes.iter().map(|image| image.runtime());
    runtimes.any(|runtime| runtime.is_loop_source(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        elf::ProcAddr,
        unwind::{Means, Unwinder},
    };

    #[test]
    fn code_that_does_not_tell_decides_nothing() {
        let unwinder = Unwinder::new(std::process::id()).unwrap();
        let own = std::env::current_exe().unwrap();
        let mut modules = unwinder.modules().iter();
        let module = modules.find(|module| module.path() == own).unwrap();
        // The beginning of the file is no function's.
        let frame = RawFrame {
            address: ProcAddr(module.bias()),
            cfa: None,
            module: Some(Arc::clone(module)),
            by: Means::CallFrames,
        };
        let unwound = Unwound {
            outcome: Outcome::Complete,
            frames: vec![frame],
            passed_entry: false,
        };
        let mut of_runtime = RuntimeCode::default();
        of_runtime.images.insert(own, Vec::new());
        assert_eq!(of_runtime.place(&unwound), Place::Unknown);
        let mut of_none = RuntimeCode::default();
        assert_eq!(of_none.place(&unwound), Place::Outside);
    }
}
