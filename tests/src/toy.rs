//! A runtime in one file: the loop of `tests/targets/toy/loop.c`, seen from outside.
//!
//! It is all that another event loop takes: an exported function to find it by, what its sites
//! tell, and what its tasks' memory says. [`crate::toy::RUNTIMES`] goes into
//! `loopprobe::collect::Options::runtimes`.

use std::sync::Arc;

use loopprobe::{
    code::probe_point,
    elf::{Image, ProcAddr, Sections, SymbolTable, VirtAddr},
    model::{Cause, NameSource, TaskKind, TaskType},
    process::{Memory, ProcessError},
    runtime::{
        DiscoverError, ImageFacts, Plumbing, Runtime, RuntimeImage, RuntimeInstance, Runtimes,
        ServedType, Site, SiteRole, TaskRef,
    },
};

/// A list with nothing else in it.
pub static RUNTIMES: Runtimes = &[&Toy];

/// One call of it is one turn: `void toy_turn(struct toy_task *task)`.
const TURN: &str = "toy_turn";
/// A task begins with a pointer to its name, of at most so many bytes.
const MAX_NAME: usize = 64;

/// The loop of `loop.c`.
#[derive(Debug)]
struct Toy;

/// Such a loop in a file.
#[derive(Debug)]
struct ToyImage {
    facts: ImageFacts,
}

/// The memory of a process with such a loop.
struct ToyProcess {
    memory: Memory,
}

impl Runtime for Toy {
    fn name(&self) -> &'static str {
        "Toy"
    }

    fn detect(
        &self,
        image: &Image,
        _debug_file: Option<&Sections>,
    ) -> Result<Option<Arc<dyn RuntimeImage>>, DiscoverError> {
        Ok(exported(image)
            .and_then(|function| site(image, function))
            .map(|site| {
                let facts = ImageFacts {
                    versions: vec!["1".to_owned()],
                    versions_source: "symbol",
                    ..ImageFacts::of(image, vec![site])
                };
                Arc::new(ToyImage { facts }) as Arc<dyn RuntimeImage>
            }))
    }

    fn instance(&self, pid: u32) -> Result<Option<Box<dyn RuntimeInstance>>, ProcessError> {
        let memory = Memory::of(pid);
        Ok(Some(Box::new(ToyProcess { memory })))
    }

    fn plumbing(&self) -> Plumbing {
        Plumbing {
            functions: &[TURN],
            ..Plumbing::default()
        }
    }

    fn advice(&self, cause: Cause) -> Option<&'static str> {
        Some(match cause {
            Cause::Sleep => "set a timer of the loop instead of sleeping in a turn",
            _ => "give it to a thread of its own",
        })
    }
}

impl RuntimeImage for ToyImage {
    fn runtime(&self) -> &'static dyn Runtime {
        &Toy
    }

    fn facts(&self) -> &ImageFacts {
        &self.facts
    }
}

impl RuntimeInstance for ToyProcess {
    fn name(&mut self, task: &TaskRef<'_>) -> Option<TaskType> {
        let name = self.memory.word(task.header)?;
        let name = self.memory.string(ProcAddr(name), MAX_NAME)?;
        Some(TaskType {
            name,
            ..task.served.task.clone()
        })
    }
}

/// Where the image exports the function of a turn.
fn exported(image: &Image) -> Option<VirtAddr> {
    let symbols = SymbolTable::exported(&image.sections().ok()?).ok()?;
    let found = symbols.iter().find(|symbol| symbol.name == TURN);
    found.map(|symbol| symbol.address)
}

/// The one place that is probed. A task has no header that tells its type: its memory is asked for
/// a name.
fn site(image: &Image, function: VirtAddr) -> Option<Site> {
    let point = probe_point(image, function)?;
    let task = TaskType {
        name: "a task of the toy loop".to_owned(),
        full_name: None,
        name_source: NameSource::None,
        certain: true,
        kind: TaskKind::Async,
        location: None,
        krate: None,
    };
    Some(Site {
        offset: image.file_offset(point.address)?,
        address: point.address,
        entry: point.instruction,
        role: SiteRole::Turn,
        has_header: false,
        types: vec![ServedType::without_header(function, task)],
    })
}
