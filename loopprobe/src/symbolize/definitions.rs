//! What a module's code says of a nameless frame: async body, source file, callee, freeing.

use std::{cell::OnceCell, ops::Range, path::Path, sync::Arc};

use super::{
    FunctionName,
    aliases::Aliases,
    role::{Origins, holds_v8, is_system_library, owner},
};
use crate::{
    code::{Completion, StateMachines, callee, calls_import, deallocators, near},
    elf::{Image, Sections, SymbolTable, VirtAddr},
    model::{Frame, SourceLocation},
    unwind::Module,
};

/// What a module's code says of where it comes from: needed where names are missing or do not tell
/// an async body from a closure.
pub(crate) struct Definitions {
    image: Arc<Image>,
    machines: StateMachines,
    origins: Origins,
    /// Looked for when a function without a name asks for it first.
    deallocators: OnceCell<Vec<VirtAddr>>,
    /// Functions with several names.
    aliases: Aliases,
    /// Looked for when it is asked for first.
    holds_v8: OnceCell<bool>,
}

impl Definitions {
    /// Reads a module's code, and its symbols, which may be in a file with its debug information;
    /// `None` for the system's libraries, which have no async functions, and where the file cannot
    /// be read.
    pub(super) fn of(module: &Module, debug_file: Option<&Path>) -> Option<Self> {
        if is_system_library(&module.path().to_string_lossy()) {
            return None;
        }
        let file = module.file()?.try_clone().ok()?;
        let image = Image::shared(file, module.path()).ok()?;
        let machines = StateMachines::default();
        let symbols = symbols(&image, debug_file);
        let crates = |start| {
            let names = symbols
                .at(start)
                .map(|s| FunctionName::of_symbol(s.name).short);
            names
                .filter_map(|name| owner(&name).map(str::to_owned))
                .collect()
        };
        let origins = Origins::of(&image, crates);
        Some(Self {
            image,
            machines,
            origins,
            deallocators: OnceCell::new(),
            aliases: Aliases::of(&symbols),
            holds_v8: OnceCell::new(),
        })
    }

    /// Lets go of the code that was looked at, if that is much by now: what is needed again is read
    /// again.
    pub(super) fn lighten(&mut self) {
        let light = self.image.lightened();
        if !Arc::ptr_eq(&light, &self.image) {
            self.machines.forget_code();
            self.image = light;
        }
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

    /// The other names of the function that stands at an address and has this one.
    pub(super) fn aliases(&self, address: VirtAddr, name: &str) -> Vec<String> {
        let function = self.function(address);
        function.map_or_else(Vec::new, |function| {
            self.aliases.others(function.start, name)
        })
    }

    /// Whether the file holds the interpreter of JavaScript.
    pub(super) fn holds_v8(&self) -> bool {
        *self.holds_v8.get_or_init(|| holds_v8(&self.image))
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

    /// The function at an address.
    pub(super) fn function(&self, address: VirtAddr) -> Option<Range<VirtAddr>> {
        self.image.function_at(address)
    }
}

/// A module's symbols: its own or, of a stripped file, those of its debug information.
fn symbols(image: &Image, debug_file: Option<&Path>) -> SymbolTable {
    let own = image.sections().and_then(|s| SymbolTable::read(&s));
    let apart = || SymbolTable::read(&Sections::open(debug_file?).ok()?).ok();
    let own = own.ok().filter(|symbols| !symbols.is_empty());
    own.or_else(apart).unwrap_or_default()
}
