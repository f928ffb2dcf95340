//! What the threads of a process do in which no task is polled.

use std::collections::{HashMap, HashSet};

use loopprobe_common::records::ThreadRegisters;

use super::{
    looked,
    stacks::Stacks,
    stuck::{Look, Stuck, Waiting, is_waiting},
    threads::ThreadNames,
};
use crate::{
    attach::{Kernel, PlannedImage},
    clock::now_ns,
    diagnose::{Object, RawSyscall, blocking_call},
    model::{Doing, Frame, ThreadState},
    runtime::{Runtime, Stand},
    unwind::Memory,
};

/// Looks at the threads of a process.
pub(super) struct Threads<'a> {
    pid: u32,
    memory: Memory,
    stacks: &'a mut Stacks,
    stuck: Stuck,
    runtimes: Vec<&'static dyn Runtime>,
}

impl<'a> Threads<'a> {
    /// Of a process, and the files in it that are probed.
    pub(super) fn of(pid: u32, planned: &[PlannedImage], stacks: &'a mut Stacks) -> Self {
        Self {
            pid,
            memory: Memory::of(pid),
            stuck: Stuck::of(pid, now_ns(), planned, stacks),
            stacks,
            runtimes: planned
                .iter()
                .filter_map(|image| Some(image.runtime.as_ref()?.runtime()))
                .collect(),
        }
    }

    /// All threads, by id, with their stacks if `frames`. Those in `polling` are known to be in a
    /// poll.
    pub(super) fn look(
        &mut self,
        kernel: &Kernel,
        polling: &HashSet<u32>,
        names: &mut ThreadNames,
        frames: bool,
    ) -> Vec<ThreadState> {
        let mut registers: HashMap<u32, ThreadRegisters> = kernel
            .thread_registers(self.pid)
            .unwrap_or_default()
            .into_iter()
            .map(|thread| (thread.tid, thread))
            .collect();
        let mut tids = looked::threads(self.pid);
        tids.sort_unstable();
        let mut threads = Vec::new();
        for tid in tids {
            let registers = registers.remove(&tid);
            let mut state = match registers.filter(|_| is_waiting(self.pid, tid)) {
                Some(registers) if frames || !polling.contains(&tid) => self.waiting(&registers),
                _ if polling.contains(&tid) => plain(Doing::InPoll),
                Some(registers) => self.waiting(&registers),
                None if is_waiting(self.pid, tid) => plain(Doing::NotWalked),
                None => plain(Doing::Running),
            };
            if polling.contains(&tid) {
                (state.doing, state.certain) = (Doing::InPoll, true);
            }
            if !frames {
                state.frames.clear();
            }
            state.tid = tid;
            names.get(tid).clone_into(&mut state.thread);
            threads.push(state);
        }
        threads
    }

    /// Whether no thread but the `known` ones runs a closure of the blocking pool, which a worker
    /// is too, or polls a task, as far as stacks prove it.
    pub(super) fn run_no_closure(&mut self, kernel: &Kernel, known: &HashSet<u32>) -> bool {
        let registers = kernel.thread_registers(self.pid).unwrap_or_default();
        let mut others = looked::threads(self.pid);
        others.retain(|tid| !known.contains(tid));
        others.into_iter().all(|tid| {
            let registers = registers.iter().find(|thread| thread.tid == tid);
            registers
                .filter(|_| is_waiting(self.pid, tid))
                .is_some_and(|registers| self.runs_no_closure(registers))
        })
    }

    fn runs_no_closure(&mut self, registers: &ThreadRegisters) -> bool {
        let Waiting { raw, .. } = Waiting::new(registers, &self.memory);
        let walked = self.stacks.walk(&raw).frames;
        matches!(self.stuck.look_at(&raw, self.stacks), Look::Nothing)
            && self.stuck.outermost(&raw, &walked).is_none()
    }

    fn waiting(&mut self, registers: &ThreadRegisters) -> ThreadState {
        let Waiting { raw, syscall } = Waiting::new(registers, &self.memory);
        let walked = self.stacks.walk(&raw).frames;
        let frames = self.stacks.names(&walked);
        let look = self.stuck.look_at(&raw, self.stacks);
        let (doing, certain) = if matches!(look, Look::Poll(..)) {
            (Doing::InPoll, true)
        } else {
            let closure = self.stuck.outermost(&raw, &walked);
            let inside = closure.map_or(walked.len(), |frame| frame + 1);
            let inner = self.stacks.names(&walked[..inside]);
            let is_known = matches!(look, Look::Nothing);
            let stand = self.stand(&inner);
            tell(stand, &inner, syscall, closure.is_some(), is_known)
        };
        let says_call = matches!(
            doing,
            Doing::BlockingClosure | Doing::InPoll | Doing::Outside
        );
        let call = blocking_call(&frames).filter(|_| says_call);
        let object = syscall.and_then(|call| self.stacks.object(&call));
        ThreadState {
            doing,
            certain,
            syscall: syscall.map(|call| call.name()),
            call: call.map(|call| call.function),
            object: object.filter(|_| says_call).and_then(described),
            frames,
            ..plain(doing)
        }
    }

    /// Where a thread stands, in whichever runtime it is.
    fn stand(&self, frames: &[Frame]) -> (Stand, bool) {
        let stands = self.runtimes.iter().map(|runtime| runtime.stand(frames));
        stands
            .into_iter()
            .find(|(stand, _)| *stand != Stand::Elsewhere)
            .unwrap_or((Stand::Elsewhere, false))
    }
}

/// What a waiting thread does on whose stack no async poll was found. `in_closure`: the outermost
/// frame is that of a closure of the blocking pool, which a worker runs in too. `is_known`: no
/// async poll can be on it.
fn tell(
    (stand, certain): (Stand, bool),
    frames: &[Frame],
    syscall: Option<RawSyscall>,
    in_closure: bool,
    is_known: bool,
) -> (Doing, bool) {
    let waits = syscall.is_some_and(|call| call.waits_for_work());
    match stand {
        Stand::ShuttingDown => (Doing::RuntimeDrop, certain),
        _ if !is_known => (Doing::NotWalked, true),
        Stand::Worker if waits => (Doing::Parked, certain),
        Stand::Parking if waits && !in_closure => (Doing::Parked, certain),
        // Without names it may be a worker, which is such a closure too.
        _ if in_closure => (Doing::BlockingClosure, has_name(frames.last())),
        _ => (Doing::Outside, true),
    }
}

fn has_name(frame: Option<&Frame>) -> bool {
    frame.is_some_and(|frame| frame.function.is_some())
}

fn plain(doing: Doing) -> ThreadState {
    ThreadState {
        tid: 0,
        thread: String::new(),
        doing,
        certain: true,
        syscall: None,
        call: None,
        object: None,
        frames: Vec::new(),
    }
}

/// What a system call was about, in a word or two.
fn described(object: Object) -> Option<String> {
    match object {
        Object::File { path, .. } | Object::Terminal { path, .. } => Some(path),
        Object::Locked(file) => file.path,
        Object::Socket(socket) => Some(socket.peer.unwrap_or(socket.protocol)),
        Object::Pipe(_) => Some("a pipe".to_owned()),
        Object::Other { name } => Some(name),
        Object::Any(several) => several.into_iter().find_map(described),
        Object::Futex { .. } => None,
    }
}
