//! Polls that were open already when loopprobe attached: their beginning was not seen, and their
//! return will not be.
//!
//! A process that hangs is what people attach to. The kernel holds the registers of a thread that
//! waits, and a task iterator reads them; one that computes is sampled. Either stack is walked to
//! its end, and an async poll on it that no probe has seen has been open since before the attach.

mod report;
mod waiting;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use loopprobe_common::{records::StackRecord, thread::Thread};

use self::waiting::{Times, thread_exists, waiting};
pub(super) use self::waiting::{Waiting, is_waiting};
use super::{
    looked::{Looked, is_clean, threads},
    naming::Named,
    stacks::{Looks, SeenStack, Stacks, in_page_fault, raw_stack, syscall},
};
use crate::{
    attach::{Kernel, PlannedImage},
    model::TaskKind,
    runtime::RuntimeImage,
    unwind::{Means, Memory, Module, OpenPoll, PollFunctions, RawFrame, RawStack},
};

/// How long such a poll must stay open before it is reported; within two seconds of the attach.
const PATIENCE_NS: u64 = 1_000_000_000;

/// How often, and after which time, threads are looked at again whose stacks could not be followed
/// at the attach.
const SECOND_LOOKS: u32 = 2;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Watches over the polls that were open at the attach.
#[derive(Debug)]
pub(super) struct Stuck {
    pid: u32,
    attach_ns: u64,
    memory: Memory,
    functions: PollFunctions,
    /// What each module with a runtime holds.
    images: Vec<(u32, Arc<dyn RuntimeImage>)>,
    /// The modules that hold any of the functions.
    modules: Vec<Arc<Module>>,
    open: HashMap<u32, StuckPoll>,
    looked: Looked,
}

/// What a thread's stack shows.
pub(super) enum Look {
    /// The innermost async poll, and the frames inside it.
    Poll(OpenPoll, Vec<RawFrame>),
    /// No async poll is open.
    Nothing,
    /// It cannot be told: the walk stopped in this file.
    Uncertain(Option<PathBuf>),
}

/// One of them.
#[derive(Debug)]
struct StuckPoll {
    poll: OpenPoll,
    times: Times,
    next_report_ns: u64,
    reported: bool,
    /// When it was last seen, for a thread that computes.
    sampled_ns: Option<u64>,
    looks: Looks,
}

impl Stuck {
    /// Looks at every thread of the process.
    pub(super) fn look(
        pid: u32,
        attach_ns: u64,
        planned: &[PlannedImage],
        kernel: &Kernel,
        stacks: &mut Stacks,
    ) -> Self {
        let mut stuck = Self::of(pid, attach_ns, planned, stacks);
        stuck.look_at_waiting(kernel, stacks);
        // A thread may be on another stack, or between two instructions of a prologue, only for a
        // moment.
        for _ in 0..SECOND_LOOKS {
            if stuck.looked.uncertain() > 0 {
                std::thread::sleep(BETWEEN_LOOKS);
                stuck.look_at_waiting(kernel, stacks);
            }
        }
        stuck
    }

    /// Knows what to look for, and has not looked at any thread.
    pub(super) fn of(
        pid: u32,
        attach_ns: u64,
        planned: &[PlannedImage],
        stacks: &mut Stacks,
    ) -> Self {
        let mut stuck = Self {
            pid,
            attach_ns,
            memory: Memory::of(pid),
            functions: PollFunctions::default(),
            images: Vec::new(),
            modules: Vec::new(),
            open: HashMap::new(),
            looked: Looked::new(threads(pid)),
        };
        for module in stacks.modules() {
            let found = planned.iter().filter_map(|image| image.runtime.as_ref());
            let found: Vec<_> = found
                .filter(|image| image.facts().path == module.path())
                .collect();
            for image in &found {
                stuck.functions.add(&module, image);
                stuck.images.push((module.id(), Arc::clone(image)));
            }
            if !found.is_empty() {
                stuck.modules.push(module);
            }
        }
        stuck
    }

    /// An image's tasks have names now.
    pub(super) fn name(&mut self, named: &Named) {
        for (_, image) in &mut self.images {
            if Arc::ptr_eq(image, &named.sketch) {
                *image = Arc::clone(&named.image);
            }
        }
    }

    /// The innermost poll on a stack that was copied a moment ago, with the task of this number.
    pub(super) fn innermost_of(
        &self,
        raw: &RawStack,
        frames: &[RawFrame],
        task_id: u64,
    ) -> Option<OpenPoll> {
        let functions = &self.functions;
        functions.innermost_of(&self.memory, raw, frames, task_id)
    }

    /// The frame of the outermost function that polls a task or runs a closure of the blocking
    /// pool.
    pub(super) fn outermost(&self, raw: &RawStack, frames: &[RawFrame]) -> Option<usize> {
        let polls = self.functions.open_polls(&self.memory, raw, frames);
        polls.last().map(|poll| poll.frame)
    }

    /// Looks at the threads that wait and have not been looked at yet.
    fn look_at_waiting(&mut self, kernel: &Kernel, stacks: &mut Stacks) {
        for (tid, waiting) in waiting(self.pid, kernel, &self.memory) {
            if !self.looked.wants(tid) {
                continue;
            }
            if let Some((poll, frames)) = self.note(tid, &waiting.raw, stacks) {
                let seen = SeenStack::waiting(frames, waiting.syscall);
                self.insert(tid, poll, seen, None);
            }
        }
    }

    /// Looks at a thread's stack, and notes whether that told anything.
    fn note(
        &mut self,
        tid: u32,
        raw: &RawStack,
        stacks: &mut Stacks,
    ) -> Option<(OpenPoll, Vec<RawFrame>)> {
        match self.look_at(raw, stacks) {
            Look::Poll(poll, frames) => {
                self.looked.clear(tid);
                return Some((poll, frames));
            }
            Look::Nothing => self.looked.clear(tid),
            Look::Uncertain(path) => self.looked.doubt(tid, path),
        }
        None
    }

    /// How many threads could not be looked at.
    pub(super) fn uncertain(&self) -> u64 {
        self.looked.uncertain()
    }

    /// A sentence about more threads that could not be looked at.
    pub(super) fn news(&mut self) -> Option<String> {
        self.looked.news()
    }

    /// A thread on its CPU, of which no poll is known.
    pub(super) fn sample(
        &mut self,
        record: &StackRecord,
        bytes: &[u8],
        now_ns: u64,
        stacks: &mut Stacks,
    ) {
        let known = self.open.contains_key(&record.tid);
        if !known && self.looked.is_settled(record.tid) {
            return;
        }
        let raw = raw_stack(record, bytes);
        let Some((poll, frames)) = self.note(record.tid, &raw, stacks) else {
            return;
        };
        let seen = SeenStack {
            frames,
            syscall: syscall(record),
            on_cpu: true,
            page_fault: in_page_fault(record, &self.memory),
        };
        match self.open.get_mut(&record.tid) {
            Some(known) if is_same(&known.poll, &poll) => {
                known.sampled_ns = Some(now_ns);
                known.looks.add(seen);
            }
            _ => self.insert(record.tid, poll, seen, Some(now_ns)),
        }
    }

    /// Whether samples of threads without a known poll are wanted: for the first moments, and while
    /// one of them spins.
    pub(super) fn wants_samples(&self, now_ns: u64) -> bool {
        now_ns < self.attach_ns + PATIENCE_NS
            || self.open.values().any(|stuck| stuck.sampled_ns.is_some())
    }

    /// The threads that have such a poll.
    pub(super) fn tids(&self) -> impl Iterator<Item = u32> {
        self.open.keys().copied()
    }

    /// The threads that are in such a poll.
    pub(super) fn threads(&self) -> impl Iterator<Item = u32> {
        self.open.keys().copied()
    }

    /// When a poll has ended, at most: its thread has begun another one, or no longer has it on its
    /// stack.
    fn ended(
        &mut self,
        tid: u32,
        thread: Option<&Thread>,
        waiting: Option<Waiting>,
        now_ns: u64,
        stacks: &mut Stacks,
    ) -> Option<u64> {
        let first = thread.map(|thread| &thread.polls[0]);
        if let Some(next) = first.filter(|poll| poll.start_ns > self.attach_ns) {
            return Some(next.start_ns);
        }
        let known = self.open.get(&tid)?.poll.clone();
        match waiting {
            Some(Waiting { raw, syscall }) => match self.look_at(&raw, stacks) {
                Look::Poll(poll, frames) if is_same(&known, &poll) => {
                    let stuck = self.open.get_mut(&tid)?;
                    stuck.sampled_ns = None;
                    stuck.looks.add(SeenStack::waiting(frames, syscall));
                    None
                }
                Look::Poll(..) | Look::Nothing => Some(now_ns),
                Look::Uncertain(_) => None,
            },
            // On its CPU: the sampler sees it, or has not seen it for too long.
            None if !thread_exists(self.pid, tid) => Some(now_ns),
            None => match self.open.get(&tid)?.sampled_ns {
                Some(sampled_ns) if sampled_ns + PATIENCE_NS < now_ns => Some(sampled_ns),
                _ => None,
            },
        }
    }

    fn insert(&mut self, tid: u32, poll: OpenPoll, seen: SeenStack, sampled_ns: Option<u64>) {
        let late_ns = sampled_ns.map_or(0, |now_ns| now_ns.saturating_sub(self.attach_ns));
        let times = Times::of(self.pid, tid).late_by(late_ns);
        let stuck = StuckPoll {
            poll,
            times,
            next_report_ns: self.attach_ns + PATIENCE_NS,
            reported: false,
            sampled_ns,
            looks: Looks::of(seen),
        };
        self.open.insert(tid, stuck);
    }

    /// The innermost async poll on a stack, and the frames inside it.
    pub(super) fn look_at(&self, raw: &RawStack, stacks: &mut Stacks) -> Look {
        let walk = stacks.walk(raw);
        let mut frames = walk.frames;
        let poll = self
            .functions
            .open_polls(&self.memory, raw, &frames)
            .into_iter()
            .find(|poll| {
                self.task_type(poll)
                    .is_some_and(|task| task.kind == TaskKind::Async)
            });
        if let Some(poll) = poll {
            frames.truncate(poll.frame + 1);
            // Without unwind information, only the running task on the stack proves that the
            // function is its poll.
            return if Means::of(&frames) == Means::CallFrames || poll.task.is_some() {
                Look::Poll(poll, frames)
            } else {
                Look::Uncertain(path(&frames))
            };
        }
        let is_whole = walk.outcome.is_whole() && Means::of(&frames) < Means::Searched;
        let from = match frames.iter().rev().find_map(|frame| frame.cfa) {
            _ if Means::of(&frames) == Means::Searched => raw.regs.sp,
            Some(cfa) => cfa.0,
            None => raw.regs.sp,
        };
        if !self.may_hide(&frames) && (is_whole || self.is_clean(from)) {
            Look::Nothing
        } else {
            Look::Uncertain(path(&frames))
        }
    }

    /// Whether a frame may be a poll function's that was not recognised as one.
    fn may_hide(&self, frames: &[RawFrame]) -> bool {
        frames.iter().any(|frame| {
            frame
                .module
                .as_ref()
                .is_some_and(|module| self.functions.may_poll_tasks(module, frame.address))
        })
    }

    /// Whether a stack has no async poll from an address on.
    fn is_clean(&self, from: u64) -> bool {
        let modules: Vec<&Module> = self.modules.iter().map(Arc::as_ref).collect();
        is_clean(from, &self.memory, &modules, &self.functions)
    }
}

/// Whether two looks at a thread show the same poll. The task is not known where its memory could
/// not be read, as at the process's end.
fn is_same(one: &OpenPoll, other: &OpenPoll) -> bool {
    let tasks = one.task.as_ref().zip(other.task.as_ref());
    one.entry_sp == other.entry_sp && tasks.is_none_or(|(one, other)| one == other)
}

/// The file in which a walk stopped.
fn path(frames: &[RawFrame]) -> Option<PathBuf> {
    let module = frames.last()?.module.as_ref()?;
    Some(module.path().to_owned())
}
