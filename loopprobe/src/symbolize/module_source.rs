//! Where the names of one module come from: its own file, separate debug information, and its code.

use std::{
    cell::OnceCell,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    bodies::{CLOSURE, inlined_body, mark_async, mark_inlined_children},
    definitions::Definitions,
    role::{self, Origins},
    separate::SeparateFiles,
    steady::Steady,
};
use crate::{
    elf::{Image, VirtAddr},
    model::{Frame, Role},
    runtime::Runtimes,
    unwind::Module,
};

/// Where a module's names come from.
pub(super) struct ModuleSource {
    /// Files to ask, best first. One that blazesym cannot cope with is asked no more.
    pub(super) files: Vec<Steady>,
    /// The file with its debug information, where that is another.
    apart: Option<PathBuf>,
    /// What the code says beside them; read when it is first needed.
    definitions: OnceCell<Option<Definitions>>,
}

impl ModuleSource {
    /// The module's own file, and the one with its debug information if there is one.
    pub(super) fn of(module: &Module, separate: &SeparateFiles) -> Self {
        let Some(file) = module.file() else {
            return Self {
                files: Vec::new(),
                apart: None,
                definitions: OnceCell::new(),
            };
        };
        let image = file
            .try_clone()
            .ok()
            .and_then(|file| Image::without_code(file, module.path()).ok());
        let apart = image.and_then(|image| separate.of(&image));
        let opened = apart.as_deref().and_then(|path| open_regular(path).ok());
        let files = opened.iter().chain([file]);
        Self {
            files: files.filter_map(|file| Steady::of(file).ok()).collect(),
            apart: apart.filter(|_| opened.is_some()),
            definitions: OnceCell::new(),
        }
    }

    /// Adds what names do not say: where nameless frames come from, which closures are async
    /// bodies, and whose code it is. Only the outermost function at an address owns its code; the
    /// others are inlined into it.
    pub(super) fn complete(
        &mut self,
        module: &Module,
        address: VirtAddr,
        runtimes: Runtimes,
        frames: &mut [Frame],
    ) {
        self.give_roles(module, address, runtimes, frames);
        self.give_aliases(module, address, frames);
        if let Some(frame) = frames.last_mut() {
            let bare = frame.location.is_none() && !frame.runtime;
            match &frame.function {
                None => {
                    if let Some(definitions) = self.definitions(module) {
                        definitions.describe(frame, address);
                    }
                }
                Some(name) if name.ends_with(CLOSURE) && !frame.runtime => {
                    frame.definition = self
                        .definitions(module)
                        .and_then(|definitions| definitions.async_body(address));
                    mark_async(frame);
                }
                // A wrapper's `poll`, into which the body that it wraps may have been inlined.
                Some(name) if name.ends_with("Future>::poll") => {
                    frame.definition = self
                        .definitions(module)
                        .and_then(|definitions| definitions.async_body(address));
                    inlined_body(frame, runtimes);
                    if bare && frame.definition.is_none() {
                        frame.near = self
                            .definitions(module)
                            .and_then(|definitions| definitions.near(address));
                    }
                }
                Some(_) if bare => {
                    frame.near = self
                        .definitions(module)
                        .and_then(|definitions| definitions.near(address));
                }
                Some(_) => {}
            }
        }
        mark_inlined_children(frames);
        if frames.iter().any(|frame| frame.function.is_none()) {
            self.give_roles(module, address, runtimes, frames);
        }
    }

    /// Of a function of the standard library: the other names of the same code.
    fn give_aliases(&mut self, module: &Module, address: VirtAddr, frames: &mut [Frame]) {
        let Some(frame) = frames.last_mut().filter(|frame| frame.role == Role::Std) else {
            return;
        };
        if let (Some(name), Some(definitions)) = (&frame.function, self.definitions(module)) {
            frame.aliases = definitions.aliases(address, name);
        }
    }

    fn give_roles(
        &mut self,
        module: &Module,
        address: VirtAddr,
        runtimes: Runtimes,
        frames: &mut [Frame],
    ) {
        let definitions = self.definitions(module);
        let unknown = Origins::default();
        let origins = definitions
            .as_ref()
            .map_or(&unknown, |known| known.origins());
        for frame in frames {
            frame.role = role::role(frame, address, origins, runtimes);
            frame.runtime = frame.role.is_plumbing();
        }
    }

    /// Whether it has been read what the code says.
    pub(super) fn is_read(&self) -> bool {
        self.definitions.get().is_some_and(Option::is_some)
    }

    /// What the code says beside the names, read when it is first needed.
    pub(super) fn definitions(&mut self, module: &Module) -> Option<&mut Definitions> {
        self.definitions
            .get_or_init(|| Definitions::of(module, self.apart.as_deref()));
        let definitions = self.definitions.get_mut()?.as_mut()?;
        definitions.lighten();
        Some(definitions)
    }
}

/// Without waiting, should somebody have put a pipe there.
fn open_regular(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}
