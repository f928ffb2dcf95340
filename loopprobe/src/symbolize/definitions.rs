//! What a module's code says of a nameless frame: async body, source file, callee, freeing.

use std::{cell::OnceCell, ops::Range};

use super::aliases::Aliases;
use super::role::{Origins, holds_v8, is_system_library};
use crate::{
    code::{Completion, StateMachines, callee, calls_import, deallocators, near},
    elf::{Image, VirtAddr},
    model::{Frame, SourceLocation},
    unwind::Module,
};

/// What a module's code says of where it comes from: needed where names are missing or do not tell
/// an async body from a closure.
pub(crate) struct Definitions {
    image: Image,
    machines: StateMachines,
    origins: Origins,
    /// Looked for when a function without a name asks for it first.
    deallocators: OnceCell<Vec<VirtAddr>>,
    /// Read when a function of the standard library asks first.
    aliases: OnceCell<Aliases>,
    /// Looked for when it is asked for first.
    holds_v8: OnceCell<bool>,
}

impl Definitions {
    /// Reads a module's code; `None` for the system's libraries, which have no async functions, and
    /// where the file cannot be read.
    pub(super) fn of(module: &Module) -> Option<Self> {
        if is_system_library(&module.path().to_string_lossy()) {
            return None;
        }
        let file = module.file()?.try_clone().ok()?;
        let image = Image::from_file(file, module.path()).ok()?;
        let machines = StateMachines::default();
        let origins = Origins::of(&image);
        Some(Self {
            image,
            machines,
            origins,
            deallocators: OnceCell::new(),
            aliases: OnceCell::new(),
            holds_v8: OnceCell::new(),
        })
    }

    /// Where the async function or block is defined whose code stands at an address, if that is
    /// certain.
    pub(super) fn async_body(&mut self, address: VirtAddr) -> Option<SourceLocation> {
        let function = self.function(address)?;
        self.machines
            .within(&self.image, function)
            .filter(|definition| definition.certain)
            .map(|definition| definition.location)
    }

    /// The instructions that are executed when an await completes, in the loops that an address
    /// lies in.
    pub(super) fn completions(&mut self, address: VirtAddr) -> Vec<Completion> {
        self.function(address).map_or_else(Vec::new, |function| {
            self.machines.completions(&self.image, function, address)
        })
    }

    /// Where the module's code comes from.
    pub(super) fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Another name of the function that has a name and stands at an address.
    pub(super) fn alias(&self, address: VirtAddr, name: &str) -> Option<String> {
        let start = self.function(address)?.start;
        let aliases = self.aliases.get_or_init(|| Aliases::of(&self.image));
        aliases.other(start, name).map(str::to_owned)
    }

    /// Whether the file holds the interpreter of JavaScript.
    pub(super) fn holds_v8(&self) -> bool {
        *self.holds_v8.get_or_init(|| holds_v8(&self.image))
    }

    /// The same, to be told more.
    pub(super) fn origins_mut(&mut self) -> &mut Origins {
        &mut self.origins
    }

    /// Says of a nameless frame what can be said.
    pub(super) fn describe(&mut self, frame: &mut Frame, address: VirtAddr) {
        frame.definition = self.async_body(address);
        frame.async_body = frame.definition.is_some();
        if frame.definition.is_none() {
            frame.near = self.near(address);
            frame.frees = self.frees(address);
            frame.yields = self
                .function(address)
                .is_some_and(|function| calls_import(&self.image, &function, b"sched_yield"));
        }
    }

    /// A source file that the function at an address refers to; a hint.
    pub(super) fn near(&self, address: VirtAddr) -> Option<SourceLocation> {
        near(&self.image, self.function(address)?)
    }

    /// The function that a caller's frame has called, where its code says so.
    pub(super) fn callee(&self, caller: VirtAddr) -> Option<VirtAddr> {
        callee(&self.image, caller)
    }

    /// Whether Rust code gives memory back through the function at an address.
    fn frees(&self, address: VirtAddr) -> bool {
        let known = self.deallocators.get_or_init(|| deallocators(&self.image));
        let function = self.function(address);
        function.is_some_and(|function| known.contains(&function.start))
    }

    fn function(&self, address: VirtAddr) -> Option<Range<VirtAddr>> {
        self.image.function_at(address)
    }
}
