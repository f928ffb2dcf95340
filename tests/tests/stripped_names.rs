//! What a stripped program's tasks are called, against what the program itself says of each task.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use loopprobe::elf::{Image, ProcAddr};
use loopprobe::model::TaskType;
use loopprobe::runtime::tokio::{
    BoxedFutures, ProcessMemory, Scheduler, Vtable, discover, may_be_boxed,
};
use loopprobe_tests::confined::confined;
use loopprobe_tests::matrix::{self, Build, Profile, Tokio};
use loopprobe_tests::target::Target;
use serde_json::Value;

const VERSIONS: [Tokio; 3] = [
    Tokio::Exactly("1.28.2"),
    Tokio::Exactly("1.44.2"),
    Tokio::Newest,
];
/// Anonymous mappings of the target are at most this large.
const MAX_MAPPING: u64 = 256 << 20;

/// One task as the program knows it, and as loopprobe sees it.
struct Pair {
    truth: Value,
    scheduler: Scheduler,
    seen: TaskType,
}

impl Pair {
    fn is_async(&self) -> bool {
        self.truth["kind"] == "async"
    }

    fn has_definition(&self) -> bool {
        self.is_async() && self.truth["line"].is_u64()
    }

    fn location_is_right(&self) -> bool {
        let location = self.seen.location.as_ref();
        location.is_some_and(|at| self.truth["file"] == at.file && self.truth["line"] == at.line)
    }

    fn describe(&self) -> String {
        format!("{} is called {:?}", self.truth, self.seen)
    }
}

struct Memory(File);

impl ProcessMemory for Memory {
    fn read(&self, address: ProcAddr, buffer: &mut [u8]) -> usize {
        self.0.read_at(buffer, address.0).unwrap_or(0)
    }
}

/// Starts the zoo and pairs each of its tasks, by its id, with the task header in memory.
fn zoo(build: Build) -> Result<Vec<Pair>> {
    let program = matrix::target(build.stripped(), "zoo")?;
    let target = Target::start(&program, &[])?;
    let truth = target
        .head
        .iter()
        .filter(|line| line["type"] == "task")
        .filter_map(|line| Some((line["task_id"].as_u64()?, line.clone())))
        .collect();
    let pid = target.pid();
    confined(|| pairs(pid, &program, truth))
}

fn pairs(pid: u32, program: &Path, mut truth: HashMap<u64, Value>) -> Result<Vec<Pair>> {
    let image = Image::open(program)?;
    let found = discover(&image)?;
    ensure!(found.stripped, "the file has no symbols");
    let vtables = found.sites.iter().flat_map(|site| &site.vtables);
    let maps = fs::read_to_string(format!("/proc/{}/maps", pid))?;
    let bias = load_bias(&maps)?;
    let vtables: HashMap<u64, &Vtable> = vtables.map(|v| (v.address.0 + bias, v)).collect();

    let memory = Memory(File::open(format!("/proc/{}/mem", pid))?);
    let mut boxes = BoxedFutures::new(pid)?;
    let mut pairs = Vec::new();
    for (header, vtable) in headers(&maps, &memory, &vtables) {
        let id = word(&memory, header.0 + u64::from(vtable.id_offset));
        let Some(truth) = id.and_then(|id| truth.remove(&id)) else {
            continue;
        };
        let boxed = may_be_boxed(&vtable.task)
            .then(|| boxes.name(&memory, vtable, header))
            .flatten();
        let seen = boxed.unwrap_or_else(|| vtable.task.clone());
        pairs.push(Pair {
            truth,
            scheduler: vtable.scheduler,
            seen,
        });
    }
    ensure!(truth.is_empty(), "tasks not found in memory: {truth:?}");
    Ok(pairs)
}

/// Where the program's first byte is loaded; the build makes position-independent executables.
fn load_bias(maps: &str) -> Result<u64> {
    let start = maps.split('-').next().context("a first mapping")?;
    Ok(u64::from_str_radix(start, 16)?)
}

/// Every place in anonymous memory that holds a vtable's address where a task header would.
fn headers<'a>(
    maps: &str,
    memory: &Memory,
    vtables: &HashMap<u64, &'a Vtable>,
) -> Vec<(ProcAddr, &'a Vtable)> {
    let anonymous = maps.lines().filter_map(|line| {
        let parts: Vec<_> = line.split_whitespace().collect();
        let (start, end) = parts.first()?.split_once('-')?;
        let (start, end) = (
            u64::from_str_radix(start, 16).ok()?,
            u64::from_str_radix(end, 16).ok()?,
        );
        let wanted = parts[1].starts_with("rw") && parts[4] == "0" && end - start <= MAX_MAPPING;
        wanted.then_some((start, end))
    });
    let mut found = Vec::new();
    for (start, end) in anonymous {
        let mut bytes = vec![0; (end - start) as usize];
        let read = memory.read(ProcAddr(start), &mut bytes);
        for (index, word) in bytes[..read].chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            if let Some(vtable) = vtables.get(&word) {
                let header = (start + 8 * index as u64).wrapping_sub(0x10);
                found.push((ProcAddr(header), *vtable));
            }
        }
    }
    found
}

fn word(memory: &Memory, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    (memory.read(ProcAddr(address), &mut bytes) == 8).then(|| u64::from_le_bytes(bytes))
}

fn build(tokio: Tokio, profile: Profile) -> Build {
    Build {
        tokio,
        profile,
        stripped: true,
    }
}

#[test]
fn stripped_async_tasks_are_named_by_their_definition_boxed_ones_too() -> Result<()> {
    for tokio in VERSIONS {
        for profile in [Profile::Release, Profile::Fat, Profile::Size] {
            let pairs = zoo(build(tokio, profile))?;
            let defined: Vec<_> = pairs.iter().filter(|pair| pair.has_definition()).collect();
            assert!(
                defined.len() >= 28,
                "{tokio} {profile:?}: {}",
                defined.len()
            );
            for pair in defined {
                assert!(
                    pair.location_is_right() && pair.seen.certain,
                    "{tokio} {profile:?}: {}",
                    pair.describe()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn futures_without_a_definition_get_none() -> Result<()> {
    for profile in [Profile::Release, Profile::Fat, Profile::Size] {
        let pairs = zoo(build(Tokio::Newest, profile))?;
        let others = pairs.iter().filter(|pair| !pair.has_definition());
        let mut count = 0;
        for pair in others {
            assert!(
                pair.seen.location.is_none(),
                "{profile:?}: {}",
                pair.describe()
            );
            count += 1;
        }
        assert!(
            count >= 4,
            "two hand-written futures on each of two runtimes"
        );
    }
    Ok(())
}

#[test]
fn with_panic_abort_nothing_wrong_is_certain() -> Result<()> {
    for tokio in VERSIONS {
        let pairs = zoo(build(tokio, Profile::Abort))?;
        let defined: Vec<_> = pairs.iter().filter(|pair| pair.has_definition()).collect();
        for pair in &defined {
            let wrong = pair.seen.certain && !pair.location_is_right();
            assert!(!wrong, "{tokio}: {}", pair.describe());
        }
        // Only `never`, which does not return, embeds no panic: one in fifteen.
        let right = defined
            .iter()
            .filter(|pair| pair.location_is_right())
            .count();
        assert!(
            right * 10 >= defined.len() * 9,
            "{tokio}: {right} of {}",
            defined.len()
        );
    }
    Ok(())
}

#[test]
fn the_scheduler_is_known_without_symbols() -> Result<()> {
    for tokio in VERSIONS {
        for profile in [
            Profile::Release,
            Profile::Fat,
            Profile::Size,
            Profile::Abort,
        ] {
            for pair in zoo(build(tokio, profile))? {
                let expected = match pair.truth["runtime"].as_str() {
                    Some("multi_thread") => Scheduler::MultiThread,
                    Some("current_thread") => Scheduler::CurrentThread,
                    Some("local") => Scheduler::Local,
                    _ => Scheduler::Blocking,
                };
                assert_eq!(
                    pair.scheduler, expected,
                    "{tokio} {profile:?}: {}",
                    pair.truth
                );
            }
        }
    }
    Ok(())
}
