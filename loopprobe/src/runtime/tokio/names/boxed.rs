//! The futures behind `Pin<Box<dyn Future>>` tasks: the task's type says nothing, its memory does.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{TaskName, location, symbols, task_type};
use crate::{
    code::{Definition, DynVtable, StateMachines, is_workspace},
    elf::{Image, ProcAddr, SymbolTable, VirtAddr},
    model::{NameSource, TaskKind, TaskType},
    process::{ImageFile, Maps, ProcessError},
    runtime::{ServedType, TaskRef},
};

/// How many words of a future are searched for a box.
const MAX_WORDS: usize = 16;
/// How many words of a wrapper's state are.
const MAX_STATE_WORDS: usize = 64;
/// Boxes in boxes: middleware stacks reach three or four.
const MAX_DEPTH: usize = 4;
const WORD: u64 = 8;

/// Reads the target's memory.
pub trait ProcessMemory {
    /// Fills `buffer` from `address`; returns how many bytes could be read, counted from the start.
    fn read(&self, address: ProcAddr, buffer: &mut [u8]) -> usize;
}

/// Whether tasks of this type may be boxed futures whose own type only their memory tells.
pub(crate) fn may_be_boxed(task: &TaskType) -> bool {
    let full_name = task.full_name.as_ref().unwrap_or(&task.name);
    let unknown = matches!(task.name_source, NameSource::None) || !task.certain;
    task.kind == TaskKind::Async && (unknown || full_name.contains("dyn "))
}

/// Names the boxed futures of one process.
#[derive(Debug)]
pub struct BoxedFutures {
    pid: u32,
    maps: Maps,
    modules: Vec<Module>,
    unreadable: HashSet<FileId>,
    names: HashMap<ProcAddr, Option<TaskName>>,
}

type FileId = ((u32, u32), u64);

#[derive(Debug)]
struct Module {
    file: FileId,
    image: Arc<Image>,
    symbols: SymbolTable,
    machines: StateMachines,
}

impl BoxedFutures {
    /// Prepares for a process; reads its memory map.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn new(pid: u32) -> Result<Self, ProcessError> {
        Ok(Self {
            pid,
            maps: Maps::read(pid)?,
            modules: Vec::new(),
            unreadable: HashSet::new(),
            names: HashMap::new(),
        })
    }

    /// Reads the memory map again, after files were mapped or unmapped.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn refresh(&mut self) -> Result<(), ProcessError> {
        self.maps = Maps::read(self.pid)?;
        self.names.clear();
        Ok(())
    }

    /// The type of the future in the box that the task at `header`, of the type `served`, holds.
    ///
    /// The task may run meanwhile, or be gone: what is read is checked, and a type that is returned
    /// is one that the memory named at that time.
    pub fn name(
        &mut self,
        memory: &impl ProcessMemory,
        served: &ServedType,
        header: ProcAddr,
    ) -> Option<TaskType> {
        let (at, len) = state(served, header)?;
        let name = self.boxed_in(memory, at, len, 0)?;
        Some(task_type(name, TaskKind::Async))
    }

    /// The type of the future of the program's own that a task of a library's type holds in a box:
    /// the only such box in its state. Likely at best, for what it holds may not be what it polls.
    ///
    /// The task may have ended, and its memory be another's: its number tells.
    pub fn wrapped(&mut self, memory: &impl ProcessMemory, task: &TaskRef<'_>) -> Option<TaskType> {
        let number = ProcAddr(task.header.0.checked_add(task.served.id_offset.into())?);
        let is_there = || task.id != 0 && words(memory, number, WORD, 1) == [task.id];
        if !is_there() {
            return None;
        }
        let (at, len) = state(task.served, task.header)?;
        let words = words(memory, at, len, MAX_STATE_WORDS);
        let mut found: Vec<TaskName> = words
            .windows(2)
            .filter_map(|pair| self.boxed(memory, ProcAddr(pair[0]), ProcAddr(pair[1]), MAX_DEPTH))
            .filter(|name| {
                let location = name.location.as_ref();
                location.is_some_and(|at| is_workspace(&at.file))
            })
            .collect();
        found.dedup();
        let [name] = &mut found[..] else {
            return None;
        };
        name.certain = false;
        // The task has not become another one meanwhile.
        is_there().then(|| task_type(name.clone(), TaskKind::Async))
    }

    /// The first box among `len` bytes of memory whose future has a name.
    fn boxed_in(
        &mut self,
        memory: &impl ProcessMemory,
        at: ProcAddr,
        len: u64,
        depth: usize,
    ) -> Option<TaskName> {
        if depth == MAX_DEPTH {
            return None;
        }
        let words = words(memory, at, len, MAX_WORDS);
        let mut pairs = words.windows(2).enumerate();
        let (index, mut name) = pairs.find_map(|(index, pair)| {
            let name = self.boxed(memory, ProcAddr(pair[0]), ProcAddr(pair[1]), depth)?;
            Some((index, name))
        })?;
        // The box itself is the first word, or the second one behind the stage's tag; any other may
        // be a part of something larger.
        name.certain &= index <= 1;
        Some(name)
    }

    /// The future that `data` and `vtable` would make a box of.
    fn boxed(
        &mut self,
        memory: &impl ProcessMemory,
        data: ProcAddr,
        vtable: ProcAddr,
        depth: usize,
    ) -> Option<TaskName> {
        let (index, address) = self.module_at(vtable)?;
        let module = &mut self.modules[index];
        let found = DynVtable::at(&module.image, address)?;
        if found.size > 0 && memory.read(data, &mut [0; 1]) == 0 {
            return None;
        }
        let named = self
            .names
            .entry(vtable)
            .or_insert_with(|| module.name(found.method));
        match named {
            Some(name) => Some(name.clone()),
            None => self.boxed_in(memory, data, found.size, depth + 1),
        }
    }

    /// The file that is mapped at `address`, and where in it that is.
    fn module_at(&mut self, address: ProcAddr) -> Option<(usize, VirtAddr)> {
        if !address.0.is_multiple_of(WORD) {
            return None;
        }
        let mapping = self.maps.at(address)?;
        let (file, offset) = (mapping.file_id(), mapping.to_file(address)?);
        let known = self.modules.iter().position(|module| module.file == file);
        let index = match known {
            Some(index) => index,
            None if self.unreadable.contains(&file) => return None,
            None => {
                let opened = ImageFile::open(self.pid, mapping).ok();
                let module = opened.and_then(|opened| Module::read(file, opened, &mapping.path));
                let Some(module) = module else {
                    self.unreadable.insert(file);
                    return None;
                };
                self.modules.push(module);
                self.modules.len() - 1
            }
        };
        let address = self.modules[index].image.address(offset)?;
        Some((index, address))
    }
}

/// Where a task keeps its future, and how many bytes that takes.
///
/// Source: `tokio/src/runtime/task/core.rs`: `Core` is scheduler, task id, (spawn location,) stage.
fn state(served: &ServedType, header: ProcAddr) -> Option<(ProcAddr, u64)> {
    let stage = u64::from(served.id_offset) + WORD;
    let len = u64::from(served.size).checked_sub(stage)?;
    Some((ProcAddr(header.0.checked_add(stage)?), len))
}

/// The words among the `len` bytes at an address, as many as can be read, `most` at most.
fn words(memory: &impl ProcessMemory, at: ProcAddr, len: u64, most: usize) -> Vec<u64> {
    let count = usize::try_from(len / WORD).map_or(most, |count| count.min(most));
    let mut bytes = vec![0; count * WORD as usize];
    let read = memory.read(at, &mut bytes);
    let words = bytes[..read].chunks_exact(WORD as usize);
    words
        .filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
        .collect()
}

impl Module {
    fn read(file: FileId, opened: ImageFile, path: &std::path::Path) -> Option<Self> {
        let image = Image::shared(opened.file, path).ok()?;
        let symbols = image
            .sections()
            .and_then(|sections| SymbolTable::read(&sections))
            .unwrap_or_default();
        let machines = StateMachines::default();
        Some(Self {
            file,
            image,
            symbols,
            machines,
        })
    }

    /// A name for the future whose poll function is `poll`.
    fn name(&mut self, poll: VirtAddr) -> Option<TaskName> {
        self.image = self.image.lightened();
        let definition = self.machines.outermost(&self.image, poll);
        symbol_name(&self.symbols, poll, definition.as_ref())
            .or_else(|| definition.map(location::from_definition))
    }
}

/// The one async body that the symbols name at `poll`; none if several were folded there.
fn symbol_name(
    symbols: &SymbolTable,
    poll: VirtAddr,
    definition: Option<&Definition>,
) -> Option<TaskName> {
    let last = |name: &str| name.rsplit("::").next().map(str::to_owned);
    let is_body = |name: &String| {
        last(name)
            .is_some_and(|last| last.starts_with("{{closure") || last.starts_with("{closure#"))
    };
    let mut bodies: Vec<_> = symbols
        .at(poll)
        .filter_map(|symbol| {
            Some((
                symbols::demangle(symbol.name)?,
                symbol.name.starts_with("_R"),
            ))
        })
        .filter(|(name, _)| is_body(name))
        .collect();
    bodies.sort();
    bodies.dedup();
    let [(type_name, is_v0)] = &bodies[..] else {
        return None;
    };
    Some(TaskName {
        type_name: type_name.clone(),
        others: Vec::new(),
        source: if *is_v0 {
            NameSource::V0
        } else {
            NameSource::Calls
        },
        // A body that embeds its definition is not folded with another's; one that embeds none may
        // be.
        certain: definition.is_some_and(|definition| definition.certain),
        scheduler: None,
        location: definition
            .filter(|definition| definition.certain)
            .map(|definition| definition.location.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, source: NameSource, certain: bool) -> TaskType {
        TaskType {
            name: name.into(),
            full_name: None,
            name_source: source,
            certain,
            kind: TaskKind::Async,
            location: None,
            krate: None,
        }
    }

    #[test]
    fn only_types_that_say_nothing_are_looked_into() {
        assert!(may_be_boxed(&task(
            "task type @0x10",
            NameSource::None,
            false
        )));
        assert!(may_be_boxed(&task(
            "Pin<Box<dyn Future>>",
            NameSource::V0,
            true
        )));
        assert!(may_be_boxed(&task(
            "src/main.rs:3",
            NameSource::Location,
            false
        )));
        assert!(!may_be_boxed(&task(
            "src/main.rs:3",
            NameSource::Location,
            true
        )));
        let blocking = TaskType {
            kind: TaskKind::Blocking,
            ..task("", NameSource::None, false)
        };
        assert!(!may_be_boxed(&blocking));
    }
}
