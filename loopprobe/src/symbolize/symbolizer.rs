//! Names the addresses of one process by blazesym and by what code tells, and caches them.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::Arc,
};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer as Blazesym,
    source::{Elf, Source},
};

use super::{
    FunctionName, NameKind, caught::caught, module_source::ModuleSource, perf_map::PerfMap, role,
    separate::SeparateFiles, steady::Steady,
};
use crate::{
    code::Completion,
    elf::VirtAddr,
    model::{Frame, Role, SourceLocation},
    runtime::{RUNTIMES, Runtimes},
    unwind::{Module, RawFrame},
};

/// Names kept at most; beyond it the store starts anew.
const MAX_CACHED: usize = 1 << 17;

/// Names addresses of one process. Not `Send`: build it in the thread that uses it.
pub struct Symbolizer {
    blazesym: Blazesym,
    separate: SeparateFiles,
    modules: HashMap<u32, ModuleSource>,
    cache: HashMap<(u32, VirtAddr), Arc<[Frame]>>,
    runtimes: Runtimes,
    /// What the process says of code that lies in no file.
    perf_map: Option<PerfMap>,
    /// Whether it gives no names at all, and reads no file for them.
    nameless: bool,
}

impl Symbolizer {
    /// `debug_files` hold debug information of modules, matched by build id.
    pub fn new(debug_files: &[PathBuf]) -> Self {
        Self {
            blazesym: blazesym(),
            separate: SeparateFiles::new(debug_files),
            modules: HashMap::new(),
            cache: HashMap::new(),
            runtimes: RUNTIMES,
            perf_map: None,
            nameless: false,
        }
    }

    /// Without names: each frame is an address.
    pub(crate) fn without_names(self) -> Self {
        Self {
            nameless: true,
            ..self
        }
    }

    /// The runtimes whose frames are told from the program's, where they are others than
    /// [`RUNTIMES`].
    #[must_use]
    pub fn with_runtimes(self, runtimes: Runtimes) -> Self {
        Self { runtimes, ..self }
    }

    /// Where the names of code come from that lies in no file.
    #[must_use]
    pub fn with_perf_map(self, perf_map: Option<PerfMap>) -> Self {
        Self { perf_map, ..self }
    }

    /// The functions of a stack, inlined ones included, innermost first.
    pub fn frames(&mut self, raw: &[RawFrame]) -> Vec<Frame> {
        if self.nameless {
            let address = |frame: &RawFrame| Frame {
                address: Some(frame.address.0),
                ..Frame::default()
            };
            return raw.iter().map(address).collect();
        }
        if self.cache.len() > MAX_CACHED {
            self.cache.clear();
        }
        self.fill_cache(raw);
        let mut frames: Vec<Frame> = Vec::new();
        for (at, frame) in raw.iter().enumerate() {
            frames.extend_from_slice(&self.cached(frame));
            let caller = raw.get(at + 1);
            frames.extend(caller.and_then(|caller| self.jumped_on(frame, caller)));
        }
        let is_made = |frame: &RawFrame| frame.module.is_none();
        let holds_v8 = raw.iter().any(is_made) && self.holds_v8(raw);
        role::settle(&mut frames, holds_v8);
        frames
    }

    /// How many files have been read for names: to read one takes more memory than is kept of it.
    pub(crate) fn files_read(&self) -> usize {
        self.modules
            .values()
            .filter(|source| source.is_read())
            .count()
    }

    /// The instructions that are executed when an await completes, in the loops of the function
    /// that a frame stands in; their addresses are the file's.
    pub(crate) fn completions(&mut self, frame: &RawFrame) -> Vec<Completion> {
        let (Some(module), Some(at)) = (&frame.module, frame.virt()) else {
            return Vec::new();
        };
        let source = self.modules.get_mut(&module.id());
        let definitions = source.and_then(|source| source.definitions(module));
        definitions.map_or_else(Vec::new, |definitions| definitions.completions(at))
    }

    /// Whether code of a file that holds the interpreter of JavaScript is on a stack.
    pub(crate) fn holds_v8(&mut self, raw: &[RawFrame]) -> bool {
        let mut modules: Vec<&Arc<Module>> = raw.iter().filter_map(|f| f.module.as_ref()).collect();
        modules.dedup_by_key(|module| module.id());
        modules.into_iter().any(|module| {
            let source = self.modules.get_mut(&module.id());
            let definitions = source.and_then(|source| source.definitions(module));
            definitions.is_some_and(|definitions| definitions.holds_v8())
        })
    }

    fn cached(&mut self, frame: &RawFrame) -> Arc<[Frame]> {
        let known = key(frame).and_then(|key| self.cache.get(&key).cloned());
        known.unwrap_or_else(|| {
            let named = self.perf_map.as_mut().map(|map| map.frame(frame.address));
            let address = Some(frame.address.0);
            [named.unwrap_or_else(|| Frame {
                address,
                ..Frame::default()
            })]
            .into()
        })
    }

    /// The function of the program's own that stands between a frame and its caller: the caller has
    /// called it, and its last act was a jump to another one, which leaves no frame.
    fn jumped_on(&mut self, frame: &RawFrame, caller: &RawFrame) -> Option<Frame> {
        let (module, at) = (caller.module.as_ref()?, caller.virt()?);
        let definitions = self.modules.get_mut(&module.id())?.definitions(module)?;
        let called = definitions.callee(at)?;
        // Of code whose function is not known it cannot be told whether that is it.
        let inner = frame.module.as_ref()?;
        if inner.id() == module.id() && definitions.function(frame.virt()?)?.start == called {
            return None;
        }
        let known = (module.id(), called);
        if !self.cache.contains_key(&known) {
            self.fill(module, &[called]);
        }
        let function = self.cache.get(&known)?.last()?;
        (function.role == Role::Own).then(|| Frame {
            location: None,
            offset: None,
            ..function.clone()
        })
    }

    /// Looks up what is not known yet, with one request a module.
    fn fill_cache(&mut self, raw: &[RawFrame]) {
        let mut wanted: HashMap<u32, (Arc<Module>, Vec<VirtAddr>)> = HashMap::new();
        for frame in raw {
            let (Some(module), Some(key)) = (&frame.module, key(frame)) else {
                continue;
            };
            if !self.cache.contains_key(&key) {
                wanted
                    .entry(module.id())
                    .or_insert_with(|| (Arc::clone(module), Vec::new()))
                    .1
                    .push(key.1);
            }
        }
        for (module, addresses) in wanted.into_values() {
            self.fill(&module, &addresses);
        }
    }

    fn fill(&mut self, module: &Module, addresses: &[VirtAddr]) {
        for (address, mut frames) in self.look_up(module, addresses) {
            if let Some(source) = self.modules.get_mut(&module.id()) {
                source.complete(module, address, self.runtimes, &mut frames);
            }
            self.cache.insert((module.id(), address), frames.into());
        }
    }

    fn look_up(&mut self, module: &Module, addresses: &[VirtAddr]) -> Vec<(VirtAddr, Vec<Frame>)> {
        let files = match self.modules.entry(module.id()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(ModuleSource::of(module, &self.separate)),
        };
        let mut open = addresses.to_vec();
        let mut found = Vec::new();
        files.files.retain(|file| {
            let Some(answer) = caught(|| ask(&self.blazesym, file, module, &open)) else {
                self.blazesym = blazesym();
                return false;
            };
            open.retain(|address| !answer.contains_key(address));
            found.extend(answer);
            true
        });
        found.extend(
            open.into_iter()
                .map(|address| (address, vec![place(module, address)])),
        );
        found
    }
}

fn blazesym() -> Blazesym {
    Blazesym::builder()
        .enable_auto_reload(false)
        .enable_demangling(false)
        .build()
}

/// What a file knows of a module's addresses.
fn ask(
    blazesym: &Blazesym,
    file: &Steady,
    module: &Module,
    addresses: &[VirtAddr],
) -> HashMap<VirtAddr, Vec<Frame>> {
    let source = Source::Elf(Elf::new(file.path()));
    let numbers: Vec<u64> = addresses.iter().map(|address| address.0).collect();
    let symbols = blazesym
        .symbolize(&source, Input::VirtOffset(&numbers))
        .unwrap_or_default();
    let known = addresses.iter().zip(symbols);
    let named = known.filter_map(|(address, symbol)| match symbol {
        Symbolized::Sym(symbol) if is_mark(&symbol.name) => None,
        Symbolized::Sym(symbol) => Some((*address, functions(module, *address, &symbol))),
        Symbolized::Unknown(_) => None,
    });
    named.collect()
}

/// Whether a symbol of aarch64 only says that code or data begins there. Source: "ELF for the Arm
/// 64-bit Architecture" (2024Q3), mapping symbols.
fn is_mark(symbol: &str) -> bool {
    let rest = ["$x", "$d"]
        .iter()
        .find_map(|mark| symbol.strip_prefix(mark));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn key(frame: &RawFrame) -> Option<(u32, VirtAddr)> {
    Some((frame.module.as_ref()?.id(), frame.virt()?))
}

/// A frame with nothing but its place.
fn place(module: &Module, address: VirtAddr) -> Frame {
    Frame {
        module: Some(module.path().to_string_lossy().into_owned()),
        offset: module.file_offset(address).map(|offset| offset.0),
        function_offset: module
            .function_at(address)
            .and_then(|function| module.file_offset(function.start))
            .map(|offset| offset.0),
        ..Frame::default()
    }
}

/// The function at an address and those inlined there, innermost first.
fn functions(module: &Module, address: VirtAddr, symbol: &Sym<'_>) -> Vec<Frame> {
    let frame = |name: &str, code: Option<&CodeInfo<'_>>, inlined: bool| {
        let name = FunctionName::of_symbol(name);
        Frame {
            function: Some(name.short),
            full_name: name.full,
            async_body: matches!(name.kind, NameKind::AsyncFn | NameKind::AsyncBlock),
            location: code.and_then(location),
            inlined,
            ..place(module, address)
        }
    };
    symbol
        .inlined
        .iter()
        .rev()
        .map(|inlined| frame(&inlined.name, inlined.code_info.as_ref(), true))
        .chain([frame(&symbol.name, symbol.code_info.as_deref(), false)])
        .collect()
}

fn location(code: &CodeInfo<'_>) -> Option<SourceLocation> {
    Some(SourceLocation {
        file: code.to_path().to_string_lossy().into_owned(),
        line: code.line.filter(|&line| line != 0)?,
        column: code.column.filter(|&column| column != 0).map(u32::from),
    })
}
