//! Which threads could be looked at for polls that have been open since before the attach.
//!
//! A poll that is open has a return address into its poll function on its thread's stack. So a
//! stack without any such word has no open poll, however it is to be unwound; and one that was
//! unwound to its end has those that were found.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::{Path, PathBuf},
};

use crate::{
    elf::ProcAddr,
    unwind::{Memory, Module, PollFunctions},
};

/// The largest stack that is looked through. Threads of Tokio have 2 MiB, the first thread 8.
const MAX_STACK: u64 = 16 << 20;
/// A stack that cannot be followed where a thread is now may be elsewhere, so it is tried this
/// often.
const MAX_TRIES: u32 = 8;
/// How much of it is read at once.
const PIECE: usize = 1 << 16;

/// The threads that the process had at the attach.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Of these it is not known yet.
    pending: HashSet<u32>,
    /// These had no poll open, or one that is known.
    cleared: HashSet<u32>,
    /// These could not be looked at, and where the walk stopped.
    uncertain: HashMap<u32, Option<PathBuf>>,
    /// How often each was tried.
    tries: HashMap<u32, u32>,
    /// How many have been told of.
    told: usize,
}

impl Looked {
    /// For these threads.
    pub(super) fn new(threads: impl IntoIterator<Item = u32>) -> Self {
        Self {
            pending: threads.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether there is nothing more to learn: no poll is open on the thread that began before the
    /// attach, or its stack cannot be followed.
    pub(super) fn is_settled(&self, tid: u32) -> bool {
        self.cleared.contains(&tid)
            || self
                .tries
                .get(&tid)
                .is_some_and(|tries| *tries >= MAX_TRIES)
    }

    /// Whether there is more to learn of a thread.
    pub(super) fn wants(&self, tid: u32) -> bool {
        let in_doubt = self.pending.contains(&tid) || self.uncertain.contains_key(&tid);
        in_doubt && !self.is_settled(tid)
    }

    /// Whether there is more to learn of any thread.
    pub(super) fn wants_any(&self) -> bool {
        !self.pending.is_empty() || self.uncertain.keys().any(|tid| self.wants(*tid))
    }

    /// It is known of a thread whether a poll is open on it.
    pub(super) fn clear(&mut self, tid: u32) {
        self.pending.remove(&tid);
        self.uncertain.remove(&tid);
        self.cleared.insert(tid);
    }

    /// A thread could not be looked at; its stack leads through the file at `path`.
    pub(super) fn doubt(&mut self, tid: u32, path: Option<PathBuf>) {
        self.pending.remove(&tid);
        if !self.cleared.contains(&tid) {
            self.uncertain.insert(tid, path);
            *self.tries.entry(tid).or_default() += 1;
        }
    }

    /// The time for looking is over: what has not been seen by now counts as not looked at, if it
    /// is still there.
    pub(super) fn give_up(&mut self, exists: impl Fn(u32) -> bool) {
        for tid in std::mem::take(&mut self.pending) {
            if exists(tid) {
                self.doubt(tid, None);
            }
        }
    }

    /// How many threads could not be looked at.
    pub(super) fn uncertain(&self) -> u64 {
        self.uncertain.len() as u64
    }

    /// A sentence about the threads that could not be looked at, when there are more than the last
    /// time.
    pub(super) fn news(&mut self) -> Option<String> {
        let count = self.uncertain.len();
        if count <= self.told {
            return None;
        }
        self.told = count;
        Some(sentence(count, self.uncertain.values().flatten()))
    }
}

fn sentence<'a>(count: usize, paths: impl Iterator<Item = &'a PathBuf>) -> String {
    let files: BTreeSet<String> = paths.map(|path| path.display().to_string()).collect();
    let plural = if count == 1 { "thread" } else { "threads" };
    let why = if files.is_empty() {
        String::new()
    } else {
        let files: Vec<String> = files.into_iter().collect();
        format!(", whose stacks cannot be followed in {}", files.join(", "))
    };
    format!(
        "{count} {plural} could not be looked at{why}: polls stuck there since before the attach are not found"
    )
}

/// Whether no word on a stack, from `start` to its end, lies in a function that polls async tasks.
pub(super) fn is_clean(
    start: u64,
    memory: &Memory,
    modules: &[&Module],
    functions: &PollFunctions,
) -> bool {
    let mut at = start & !7;
    let mut bytes = vec![0; PIECE];
    while at < start.saturating_add(MAX_STACK) {
        let read = memory.read(ProcAddr(at), &mut bytes);
        for word in bytes[..read].chunks_exact(8) {
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            if is_in(word, modules, functions) {
                return false;
            }
        }
        if read < PIECE {
            // Nothing at all says nothing.
            return at + read as u64 > start;
        }
        at += PIECE as u64;
    }
    false
}

fn is_in(word: u64, modules: &[&Module], functions: &PollFunctions) -> bool {
    // A call may be the last instruction of its function.
    let place = ProcAddr(word.wrapping_sub(1));
    modules
        .iter()
        .any(|module| module.contains(place) && functions.may_poll_tasks(module, place))
}

/// The threads of a process, without those of io_uring that never leave the kernel: no poll can be
/// on them.
pub(super) fn threads(pid: u32) -> Vec<u32> {
    let folder = Path::new("/proc").join(pid.to_string()).join("task");
    let entries = std::fs::read_dir(&folder).into_iter().flatten();
    let tids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let runs_code = |tid: &u32| {
        let stat = std::fs::read_to_string(folder.join(tid.to_string()).join("stat"));
        !stat.is_ok_and(|stat| is_kernel_worker(&stat))
    };
    tids.filter(runs_code).collect()
}

/// Whether a line of `/proc/PID/task/TID/stat` is that of a thread that the kernel made in the
/// process for itself: its flags, the ninth field (proc_pid_stat(5)), have `PF_IO_WORKER`
/// (`include/linux/sched.h`, Linux 5.15 and 6.18).
fn is_kernel_worker(stat: &str) -> bool {
    const PF_IO_WORKER: u64 = 0x10;
    // The name may hold anything, closing brackets too; the state, the third field, comes behind
    // it.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let flags = rest.split_ascii_whitespace().nth(6);
    flags.and_then(|flags| flags.parse().ok()).unwrap_or(0) & PF_IO_WORKER != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_io_uring_are_no_threads_of_the_program() {
        let stat = |flags: u64| format!("7 (iou) sqp) S 1 2 3 4 5 {flags} 0 0");
        assert!(is_kernel_worker(&stat(0x4010)));
        assert!(!is_kernel_worker(&stat(0x40)));
        assert!(!is_kernel_worker(""));
    }

    #[test]
    fn a_thread_is_doubted_until_it_is_cleared() {
        let mut looked = Looked::new([1, 2, 3]);
        looked.clear(1);
        looked.doubt(2, Some(PathBuf::from("/bin/x")));
        looked.doubt(1, None);
        assert_eq!(looked.uncertain(), 1);
        assert!(looked.wants(2) && looked.wants(3) && !looked.wants(1));
        let said = looked.news().expect("news");
        assert!(
            said.contains("1 thread ") && said.contains("/bin/x"),
            "{said}"
        );
        assert_eq!(looked.news(), None);
        looked.give_up(|_| true);
        assert_eq!(looked.uncertain(), 2);
        assert!(looked.news().is_some_and(|said| said.contains("2 threads")));
        looked.clear(2);
        looked.clear(3);
        assert_eq!(looked.uncertain(), 0);
        assert!(!looked.wants_any());
    }

    #[test]
    fn memory_that_cannot_be_read_is_not_clean() {
        let memory = Memory::of(std::process::id());
        let functions = PollFunctions::default();
        assert!(!is_clean(0x1000, &memory, &[], &functions));
        let local = 0_u64;
        let here = std::ptr::from_ref(&local) as u64;
        assert!(is_clean(here, &memory, &[], &functions));
    }
}
