//! Where the threads of a process keep what an image polls, for the kernel side.

use std::path::PathBuf;

use loopprobe_common::watch::{MAX_WORDS, Words};

use crate::{
    elf::{Image, ProcAddr, VirtAddr},
    process::{CodeSegment, Maps, Memory},
    runtime::{NotWatchable, ThreadPlace, WatchWords},
};

/// The size of an entry of the table of modules' blocks (glibc: `dtv_t` in
/// `sysdeps/x86_64/nptl/tls.h`).
const GLIBC_ENTRY: u64 = 16;
/// The same with musl, where it is an address (`src/internal/pthread_impl.h`).
const MUSL_ENTRY: u64 = 8;

/// A file with a runtime in it, and where threads keep what it polls.
#[derive(Debug)]
pub(crate) struct Watchable {
    /// The file.
    pub path: PathBuf,
    inode: u64,
    code: Vec<CodeSegment>,
    /// The words, or why there are none.
    pub words: Result<WatchWords, NotWatchable>,
}

impl Watchable {
    /// Why it is not watched, for people; `None` if it is.
    pub(crate) fn unwatched(&self) -> Option<String> {
        let why = self.words.err()?;
        Some(format!("not watched: {}: {why}", self.path.display()))
    }

    /// Of an image with this inode.
    pub(crate) fn new(image: &Image, inode: u64, words: Result<WatchWords, NotWatchable>) -> Self {
        let words = words.and_then(|words| match words.budget_distance() {
            Some(_) => Ok(words),
            None => Err(NotWatchable::NoBudget),
        });
        Self {
            path: image.path().into(),
            inode,
            code: CodeSegment::all_of(image).collect(),
            words,
        }
    }

    /// For the kernel side: what the process has mapped, or is about to execute. `None` if it is
    /// neither, or cannot be watched.
    fn words(&self, maps: &Maps, memory: &Memory, awaits_exec: bool) -> Option<Words> {
        let words = self.words.ok()?;
        let is_mapped = maps.images().any(|mapping| mapping.inode == self.inode);
        let mut found = Words {
            state: if is_mapped {
                Words::USED
            } else {
                Words::FROM_EXEC
            },
            budget_distance: words.budget_distance()?.cast_unsigned(),
            has_tag: words.has_tag.into(),
            ..Words::default()
        };
        match words.task_id {
            ThreadPlace::Fixed(offset) if is_mapped || awaits_exec => {
                found.task_id = offset.cast_unsigned();
            }
            ThreadPlace::Fixed(_) => return None,
            ThreadPlace::InModule { slot, offset } => {
                let bias = maps
                    .executable()
                    .filter(|mapping| mapping.inode == self.inode)
                    .find_map(|mapping| mapping.load_bias(self.code.iter().copied()))?;
                found.task_id = offset.cast_unsigned();
                // 0 until the loader has written it.
                found.module = memory.word(at(slot, bias)).filter(|module| *module != 0)?;
                found.entry_size = if has_musl(maps) {
                    MUSL_ENTRY
                } else {
                    GLIBC_ENTRY
                };
            }
        }
        Some(found.with_window())
    }
}

/// All of a process that the kernel side can hold; and how many there were.
pub(crate) fn words_of(pid: u32, images: &[Watchable], awaits_exec: bool) -> (Vec<Words>, usize) {
    let Ok(maps) = Maps::read(pid) else {
        return (Vec::new(), 0);
    };
    let memory = Memory::of(pid);
    let mut words: Vec<Words> = Vec::new();
    for found in images
        .iter()
        .filter_map(|image| image.words(&maps, &memory, awaits_exec))
    {
        if !words.contains(&found) {
            words.push(found);
        }
    }
    let all = words.len();
    words.truncate(MAX_WORDS as usize);
    (words, all)
}

fn at(address: VirtAddr, bias: u64) -> ProcAddr {
    ProcAddr(address.0.wrapping_add(bias))
}

fn has_musl(maps: &Maps) -> bool {
    maps.images().any(|mapping| {
        let name = mapping.path.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        name.starts_with("ld-musl-") || name.starts_with("libc.musl-")
    })
}
