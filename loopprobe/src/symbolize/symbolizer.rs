//! Names the addresses of one process by blazesym and by what code tells, and caches them.

use std::{
    cell::OnceCell,
    collections::{HashMap, hash_map::Entry},
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer as Blazesym,
    source::{Elf, Source},
};

use super::{
    FunctionName, NameKind,
    caught::caught,
    definitions::Definitions,
    perf_map::PerfMap,
    role::{self, Origins},
    separate::SeparateFiles,
    steady::Steady,
};
use crate::{
    elf::{Image, VirtAddr},
    model::{Frame, Role, SourceLocation},
    runtime::{RUNTIMES, Runtimes},
    unwind::{Module, RawFrame},
};

/// How a name ends that stands for a closure or, as far as symbols tell, for an async body.
const CLOSURE: &str = "::{closure}";
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
}

/// Where a module's names come from.
struct ModuleSource {
    /// Files to ask, best first. One that blazesym cannot cope with is asked no more.
    files: Vec<Steady>,
    /// What the code says beside them; read when it is first needed.
    definitions: OnceCell<Option<Definitions>>,
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
        }
    }

    /// The runtimes whose frames are told from the program's, where they are others than [`RUNTIMES`].
    pub fn with_runtimes(self, runtimes: Runtimes) -> Self {
        Self { runtimes, ..self }
    }

    /// Where the names of code come from that lies in no file.
    pub fn with_perf_map(self, perf_map: Option<PerfMap>) -> Self {
        Self { perf_map, ..self }
    }

    /// The functions of a stack, inlined ones included, innermost first.
    pub fn frames(&mut self, raw: &[RawFrame]) -> Vec<Frame> {
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
        role::settle(&mut frames);
        frames
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

    /// The function of the program's own that stands between a frame and its caller: the caller has called it, and its last act was a
    /// jump to another one, which leaves no frame.
    fn jumped_on(&mut self, frame: &RawFrame, caller: &RawFrame) -> Option<Frame> {
        let (module, at) = (caller.module.as_ref()?, caller.virt()?);
        let definitions = self.modules.get_mut(&module.id())?.definitions(module)?;
        let called = definitions.callee(at)?;
        let running = frame
            .module
            .as_ref()
            .filter(|inner| inner.id() == module.id())
            .and_then(|inner| inner.function_at(frame.virt()?));
        if running.is_some_and(|running| running.start == called) {
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
        Symbolized::Sym(symbol) => Some((*address, functions(module, *address, &symbol))),
        Symbolized::Unknown(_) => None,
    });
    named.collect()
}

impl ModuleSource {
    fn of(module: &Module, separate: &SeparateFiles) -> Self {
        let Some(file) = module.file() else {
            return Self {
                files: Vec::new(),
                definitions: OnceCell::new(),
            };
        };
        let image = file
            .try_clone()
            .ok()
            .and_then(|file| Image::from_file(file, module.path()).ok());
        let apart = image
            .and_then(|image| separate.of(&image))
            .and_then(|path| open_regular(&path).ok());
        let files = apart.iter().chain([file]);
        Self {
            files: files.filter_map(|file| Steady::of(file).ok()).collect(),
            definitions: OnceCell::new(),
        }
    }

    /// Adds what names do not say: where nameless frames come from, which closures are async bodies, and whose code it is. Only
    /// the outermost function at an address owns its code; the others are inlined into it.
    fn complete(
        &mut self,
        module: &Module,
        address: VirtAddr,
        runtimes: Runtimes,
        frames: &mut [Frame],
    ) {
        self.give_roles(module, address, runtimes, frames);
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

    fn definitions(&mut self, module: &Module) -> Option<&mut Definitions> {
        self.definitions.get_or_init(|| Definitions::of(module));
        self.definitions.get_mut()?.as_mut()
    }
}

/// Without waiting, should somebody have put a pipe there.
fn open_regular(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Marks the async bodies that were inlined into an async body, going inwards from it: only debug information shows them,
/// and it names them like closures. A closure of the body itself is named below the body (`f::{closure}::{closure}`), so
/// another function's closure that the body enters without that function is the body of what it awaits.
fn mark_inlined_children(frames: &mut [Frame]) {
    let Some((outermost, inlined)) = frames.split_last_mut() else {
        return;
    };
    let mut parent = outermost.function.clone().filter(|_| outermost.async_body);
    for frame in inlined.iter_mut().rev() {
        let Some(around) = &parent else {
            return;
        };
        if frame.runtime {
            continue;
        }
        let child = frame
            .function
            .as_deref()
            .and_then(|name| name.strip_suffix(CLOSURE))
            .filter(|owner| !owner.ends_with(CLOSURE) && owner != around)
            .map(str::to_owned);
        if let Some(owner) = &child {
            frame
                .full_name
                .get_or_insert_with(|| format!("{owner}{CLOSURE}"));
            frame.function = Some(owner.clone());
            frame.async_body = true;
        }
        parent = child;
    }
}

/// A library's `poll` with the program's own body inside is the program's.
fn inlined_body(frame: &mut Frame, runtimes: Runtimes) {
    if let Some(definition) = &frame.definition {
        let role = role::located(definition, runtimes);
        if role == Role::Own {
            frame.role = role;
            frame.runtime = false;
        }
    }
}

/// A closure that proves to be an async body reads as its function; inside another one it is a block.
fn mark_async(frame: &mut Frame) {
    let (Some(name), Some(_)) = (&frame.function, &frame.definition) else {
        return;
    };
    let owner = name.trim_end_matches(CLOSURE);
    let nested = name.len() - owner.len() > CLOSURE.len();
    let readable = if nested {
        format!("{owner}::{{async block}}")
    } else {
        owner.to_owned()
    };
    frame.full_name.get_or_insert_with(|| name.clone());
    frame.function = Some(readable);
    frame.async_body = true;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, async_body: bool) -> Frame {
        Frame {
            function: Some(function.to_owned()),
            async_body,
            runtime: function.starts_with("core::"),
            ..Frame::default()
        }
    }

    fn bodies(names: &[&str], outermost: Frame) -> Vec<(String, bool)> {
        let mut frames: Vec<Frame> = names.iter().map(|name| frame(name, false)).collect();
        frames.push(outermost);
        mark_inlined_children(&mut frames);
        frames
            .into_iter()
            .map(|frame| (frame.function.unwrap_or_default(), frame.async_body))
            .collect()
    }

    #[test]
    fn what_an_async_body_awaits_reads_as_its_function() {
        let found = bodies(
            &[
                "a::helper::{closure}",
                "a::helper",
                "a::grandchild::{closure}",
                "core::future::Future::poll",
                "a::child::{closure}",
            ],
            frame("a::task", true),
        );
        let names: Vec<&str> = found
            .iter()
            .filter(|(_, body)| *body)
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["a::grandchild", "a::child", "a::task"]);
        assert_eq!(found[0].0, "a::helper::{closure}");
    }

    #[test]
    fn closures_of_a_body_and_of_plain_functions_stay_closures() {
        let own = bodies(&["a::task::{closure}::{closure}"], frame("a::task", true));
        assert!(!own[0].1);
        let plain = bodies(&["a::child::{closure}"], frame("a::task", false));
        assert!(!plain[0].1);
    }
}
