//! What a target says of its own tasks, paired with what loopprobe calls them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use loopprobe::elf::{Image, ProcAddr};
use loopprobe::model::{NameSource, TaskType};
use loopprobe::runtime::tokio::{BoxedFutures, ProcessMemory, discover};
use loopprobe::runtime::{ServedType, TaskRef};
use serde_json::Value;

use crate::confined::confined;

/// Anonymous mappings of the target are at most this large.
const MAX_MAPPING: u64 = 256 << 20;

/// Tasks are aligned to two cache lines, `2^7` bytes, on x86_64 (`tokio/src/runtime/task/core.rs`,
/// seen in 1.32 to 1.54).
const CELL_ALIGN: u32 = 7;

/// One task as the program knows it, and as loopprobe sees it.
pub struct Pair {
    /// The program's own line.
    pub truth: Value,
    /// The scheduler that loopprobe found.
    pub scheduler: &'static str,
    /// The type that loopprobe found.
    pub seen: TaskType,
    /// Whether the file has no symbols.
    pub stripped: bool,
}

impl Pair {
    /// Whether it is no closure on the blocking pool.
    pub fn is_async(&self) -> bool {
        self.truth["kind"] == "async"
    }

    /// Whether it has one outermost async function or block.
    pub fn has_definition(&self) -> bool {
        self.is_async() && self.truth["line"].is_u64()
    }

    /// Whether loopprobe found that definition.
    pub fn location_is_right(&self) -> bool {
        let location = self.seen.location.as_ref();
        location.is_some_and(|at| self.truth["file"] == at.file && self.truth["line"] == at.line)
    }

    /// Whether a library has wrapped the program's own future.
    pub fn is_wrapped(&self) -> bool {
        self.truth["wrapper"].is_string()
    }

    /// Whether the task is told by what the library has wrapped.
    pub fn is_told_by_content(&self) -> bool {
        self.is_wrapped() && self.seen.location.is_some() && !self.is_wrapper()
    }

    /// Whether the task is told as the library's wrapper: no lie, but all such tasks are.
    fn is_wrapper(&self) -> bool {
        let location = self.seen.location.as_ref();
        self.is_wrapped() && location.is_some_and(|at| self.truth["wrapper"] == at.file)
    }

    /// Whether all is right that loopprobe says of the task's type: its place, if any is told, and
    /// its name, which is the whole type, or the outermost async function or block in it.
    pub fn is_right(&self) -> bool {
        if self.is_wrapper() {
            return true;
        }
        let at = self.seen.location.as_ref();
        let place = at.is_none_or(|at| at.column.is_none() || self.location_is_right());
        place && (self.seen.name_source == NameSource::Location || self.name_is_right())
    }

    fn name_is_right(&self) -> bool {
        let name = self.seen.full_name.as_ref().unwrap_or(&self.seen.name);
        let claimed = plain(name);
        let truth = plain(self.truth["type_name"].as_str().unwrap_or_default());
        let label = self.truth["label"].as_str().unwrap_or_default();
        let is_body = self.has_definition() && claimed.ends_with(&format!("::{label}::{{}}"));
        claimed == truth || is_body || truth.contains(&format!("<{claimed}>"))
    }

    /// Both sides, for messages.
    pub fn describe(&self) -> String {
        format!("{} is called {:?}", self.truth, self.seen)
    }
}

/// A type's name without what the compiler, symbols and debug information spell differently: which
/// closure of a function it is, the generic arguments of functions, traits of trait objects, and
/// allocators.
fn plain(type_name: &str) -> String {
    let mut name = type_name.replace("::<", "<").replace([' ', '('], "");
    name = name.replace([')'], "").replace(",alloc::alloc::Global", "");
    while let Some((start, end)) = closure(&name) {
        name.replace_range(start..end, "\u{1}");
        if name[start + 1..].starts_with('<') {
            let end = closing(&name, start + 1);
            name.replace_range(start + 1..end, "");
        }
        if let Some(open) = name[..start].strip_suffix(">::").and_then(opening) {
            name.replace_range(open..start - 2, "");
        }
    }
    if let Some(start) = name.find("dyn") {
        let end = closing(&name, name[..start].rfind('<').unwrap_or(0));
        name.replace_range(start..end - 1, "dyn");
    }
    name.replace('\u{1}', "{}")
}

/// Where the first spelling of a closure, async function or block is.
fn closure(name: &str) -> Option<(usize, usize)> {
    let start = ["{{closure", "{closure", "{async_"]
        .iter()
        .filter_map(|word| name.find(word))
        .min()?;
    let rest = &name[start..];
    let end = rest.find(|c| c != '{' && c == '}')? + 1;
    Some((
        start,
        start + end + usize::from(rest[end..].starts_with('}')),
    ))
}

/// The position after the bracket that closes the one at `open`.
fn closing(name: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in name.bytes().enumerate().skip(open) {
        let is_arrow = at > 0 && name.as_bytes()[at - 1] == b'-';
        match byte {
            b'<' => depth += 1,
            b'>' if !is_arrow => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    name.len()
}

/// The position of the bracket that is open at the end of `name`.
fn opening(name: &str) -> Option<usize> {
    let mut depth = 1;
    name.bytes().enumerate().rev().find_map(|(at, byte)| {
        match byte {
            b'>' => depth += 1,
            b'<' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

struct Memory(File);

impl ProcessMemory for Memory {
    fn read(&self, address: ProcAddr, buffer: &mut [u8]) -> usize {
        self.0.read_at(buffer, address.0).unwrap_or(0)
    }
}

/// Pairs each task that `lines` tell of, by its id, with the task header in the memory of `pid`;
/// `file` is the program or shared object with the task types.
///
/// # Errors
/// When a task is not found, or the process is gone.
pub fn pairs(pid: u32, file: &Path, lines: &[Value]) -> Result<Vec<Pair>> {
    let truth = lines
        .iter()
        .filter(|line| line["type"] == "task")
        .filter_map(|line| Some((line["task_id"].as_u64()?, line.clone())))
        .collect();
    confined(|| find(pid, file, truth))
}

fn find(pid: u32, file: &Path, mut truth: HashMap<u64, Value>) -> Result<Vec<Pair>> {
    let image = Image::open(file)?;
    let facts = discover(&image)?.facts;
    let types = facts.sites.iter().flat_map(|site| &site.types);
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let bias = load_bias(&maps, file)?;
    let types: HashMap<u64, &ServedType> = types.map(|t| (t.key.0 + bias, t)).collect();

    let memory = Memory(File::open(format!("/proc/{pid}/mem"))?);
    let mut boxes = BoxedFutures::new(pid)?;
    let mut pairs = Vec::new();
    let mut headers = headers(&maps, &memory, &types);
    // What only looks like a header, left over on some stack and followed by a small number, is not
    // aligned as tasks are.
    headers.sort_by_key(|(header, _)| Reverse(header.0.trailing_zeros().min(CELL_ALIGN)));
    for (header, served) in headers {
        let id = word(&memory, header.0 + u64::from(served.id_offset));
        let Some(truth) = id.and_then(|id| truth.remove(&id)) else {
            continue;
        };
        let boxed = if served.ask_memory {
            boxes.name(&memory, served, header)
        } else if served.is_wrapper {
            let task = TaskRef {
                served,
                header,
                id: truth["task_id"].as_u64().unwrap_or_default(),
                beginning: Default::default(),
            };
            boxes.wrapped(&memory, &task)
        } else {
            None
        };
        pairs.push(Pair {
            truth,
            scheduler: served.scheduler,
            seen: boxed.unwrap_or_else(|| served.task.clone()),
            stripped: facts.stripped,
        });
    }
    ensure!(truth.is_empty(), "tasks not found in memory: {truth:?}");
    Ok(pairs)
}

/// Where the file's first byte is loaded; the build makes position-independent code.
fn load_bias(maps: &str, file: &Path) -> Result<u64> {
    let name = file.file_name().context("a file")?.to_string_lossy();
    let mut lines = maps.lines();
    let first = lines.find(|line| line.ends_with(&format!("/{name}")));
    let start = first.and_then(|line| line.split('-').next());
    Ok(u64::from_str_radix(start.context("it is mapped")?, 16)?)
}

/// Every place in anonymous memory that holds a vtable's address where a task header would.
fn headers<'a>(
    maps: &str,
    memory: &Memory,
    types: &HashMap<u64, &'a ServedType>,
) -> Vec<(ProcAddr, &'a ServedType)> {
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
            if let Some(served) = types.get(&word) {
                let header = (start + 8 * index as u64).wrapping_sub(0x10);
                found.push((ProcAddr(header), *served));
            }
        }
    }
    found
}

fn word(memory: &Memory, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    (memory.read(ProcAddr(address), &mut bytes) == 8).then(|| u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_type_is_the_same_in_all_spellings() {
        for name in [
            "app::Timed<app::f<u32>::{{closure}}>",
            "app::Timed<app::f::{{closure}}>",
            "app::Timed<app::f::<u32>::{closure#0}>",
            "app::Timed<app::f::{async_fn_env#0}<u32>>",
            "app::Timed<app::f<app::W<app::g::{{closure}}>>::{{closure}}>",
        ] {
            assert_eq!(plain(name), "app::Timed<app::f::{}>", "{name}");
        }
        assert_ne!(
            plain("app::Timed<app::g::{{closure}}>"),
            "app::Timed<app::f::{}>"
        );
        assert_eq!(
            plain(
                "core::pin::Pin<alloc::boxed::Box<dyn core::future::Future<Output = u64> + core::marker::Send>>"
            ),
            "core::pin::Pin<alloc::boxed::Box<dyn>>"
        );
    }
}
