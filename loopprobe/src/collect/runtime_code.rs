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
    runtime::{LoopCode, RuntimeImage},
    unwind::{Module, RawFrame, Unwound},
};

/// The code of the images with a runtime in them.
#[derive(Debug, Default)]
pub(super) struct RuntimeCode {
    /// By path: the runtimes there.
    images: HashMap<PathBuf, Vec<Arc<dyn RuntimeImage>>>,
    /// By module.
    code: HashMap<u32, Option<Arc<Image>>>,
    /// By module and beginning: what the function says; `None` where its image does not tell.
    functions: HashMap<(u32, VirtAddr), Option<LoopCode>>,
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
        let codes = unwound.frames.iter().map(|frame| self.loop_code(frame));
        place(codes, unwound.outcome == Outcome::Complete)
    }

    /// What a frame's function says; `None` where that is not known.
    fn loop_code(&mut self, frame: &RawFrame) -> Option<LoopCode> {
        let module = frame.module.as_ref()?;
        let Some(runtimes) = self.images.get(module.path()) else {
            return Some(LoopCode::Silent);
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
        let code = image.as_mut().map(|image| {
            *image = image.lightened();
            let locations = locations_in(image, function);
            let files: Vec<&str> = locations.iter().map(|at| at.file.as_str()).collect();
            let mut codes = runtimes
                .iter()
                .map(|image| image.runtime().loop_code(&files));
            codes
                .find(|code| *code != LoopCode::Silent)
                .unwrap_or_default()
        });
        self.functions.insert(key, code);
        code
    }
}

/// What a stack shows with functions that say this, innermost first. A worker parks with code that
/// `block_on` parks with too, so what comes behind such code decides: its own loop, unless it has
/// called something meanwhile, which then has called `block_on`.
fn place(codes: impl Iterator<Item = Option<LoopCode>>, is_complete: bool) -> Place {
    let mut is_known = is_complete;
    let mut in_loop = false;
    for code in codes {
        match code {
            Some(LoopCode::BlockOn) => in_loop = true,
            Some(LoopCode::Worker) if in_loop && !is_known => return Place::Unknown,
            Some(LoopCode::Worker) => return Place::Outside,
            Some(LoopCode::Called) if in_loop => return Place::Inside,
            Some(LoopCode::Called | LoopCode::Silent) => {}
            None => is_known = false,
        }
    }
    match (in_loop, is_known) {
        (true, _) => Place::Inside,
        (false, true) => Place::Outside,
        (false, false) => Place::Unknown,
    }
}

fn read(module: &Module) -> Option<Arc<Image>> {
    let file = module.file()?.try_clone().ok()?;
    Image::shared(file, Path::new(module.path())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::testing::{complete, own_module};

    #[test]
    fn a_workers_loop_is_no_root_future() {
        use LoopCode::{BlockOn, Called, Silent, Worker};
        let of = |codes: &[LoopCode]| place(codes.iter().copied().map(Some), true);
        assert_eq!(of(&[Silent, Called, BlockOn, Called]), Place::Inside);
        assert_eq!(of(&[Silent, BlockOn, Silent]), Place::Inside);
        // It waits for a lock, and it parks.
        assert_eq!(of(&[Silent, Silent, Worker, BlockOn]), Place::Outside);
        assert_eq!(of(&[Silent, BlockOn, Silent, Worker]), Place::Outside);
        // A task of its calls `block_on`.
        assert_eq!(of(&[BlockOn, Called, Silent, Worker]), Place::Inside);
        assert_eq!(of(&[Silent, Called]), Place::Outside);
        let unknown = [Some(BlockOn), None, Some(Worker)];
        assert_eq!(place(unknown.into_iter(), true), Place::Unknown);
        assert_eq!(place([Some(Silent)].into_iter(), false), Place::Unknown);
    }

    #[test]
    fn code_that_does_not_tell_decides_nothing() {
        let module = own_module();
        // The beginning of the file is no function's.
        let unwound = complete(&module, &[0]);
        let mut of_runtime = RuntimeCode::default();
        let own = module.path().to_owned();
        of_runtime.images.insert(own, Vec::new());
        assert_eq!(of_runtime.place(&unwound), Place::Unknown);
        let mut of_none = RuntimeCode::default();
        assert_eq!(of_none.place(&unwound), Place::Outside);
    }
}
