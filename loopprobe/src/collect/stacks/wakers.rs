//! Threads that polls waited for: who ended a wait, and what that thread did meanwhile.

use loopprobe_common::records::StackRecord;

use super::{
    Stacks,
    record::raw_stack,
    seen::{MAX_STACKS, SeenWaker},
};
use crate::{
    diagnose::{Work, blocking_call},
    model::Frame,
    unwind::RawFrame,
};

/// So many samples of threads beside polls are kept, and for so long.
const MAX_BESIDE: usize = 512;
const KEEP_BESIDE_NS: u64 = 5_000_000_000;
/// A tenth.
const LEAST_WORK: u64 = 10;
/// Fewer samples tell nothing of what a thread did.
const FEWEST_BESIDE: usize = 3;

/// A sample of a thread that is in no poll.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    tid: u32,
    ns: u64,
    frames: Vec<RawFrame>,
}

impl Stacks {
    /// The stack of a thread that ends a wait inside a poll.
    pub(crate) fn woken(&mut self, record: &StackRecord, bytes: &[u8]) {
        let frames = self
            .unwinder
            .unwind_thread(&raw_stack(record, bytes))
            .frames;
        let taken = self.polls.entry((record.tid, record.poll_ns)).or_default();
        taken.last_ns = taken.last_ns.max(record.start_ns);
        if taken.wakers.len() < MAX_STACKS {
            taken.wakers.push(SeenWaker {
                off_ns: record.woken_ns,
                woken_ns: record.start_ns,
                tid: record.waker,
                name: thread_name(&record.comm),
                futex: (record.syscall != libc::SYS_exit).then_some(record.args[0]),
                driver: record.driver_from_ns..record.driver_to_ns,
                frames,
            });
        }
    }

    /// A sample of a thread that is in no poll, and may do what one waits for.
    pub(crate) fn beside(&mut self, record: &StackRecord, bytes: &[u8]) {
        let old = |sample: &Beside| sample.ns + KEEP_BESIDE_NS < record.start_ns;
        while self.beside.len() >= MAX_BESIDE || self.beside.front().is_some_and(old) {
            self.beside.pop_front();
        }
        let frames = self
            .unwinder
            .unwind_thread(&raw_stack(record, bytes))
            .frames;
        self.beside.push_back(Beside {
            tid: record.tid,
            ns: record.start_ns,
            frames,
        });
    }

    /// What the thread that ended a wait did on a CPU meanwhile, if that was a tenth of it at
    /// least.
    pub(super) fn work_of(&mut self, waker: &SeenWaker) -> Option<Work> {
        let meanwhile = waker.off_ns..=waker.woken_ns;
        let samples: Vec<&Beside> = self
            .beside
            .iter()
            .filter(|sample| sample.tid == waker.tid && meanwhile.contains(&sample.ns))
            .collect();
        let waited_ns = waker.woken_ns.saturating_sub(waker.off_ns);
        let ns = (samples.len() as u64 * self.sample_ns).min(waited_ns);
        if samples.len() < FEWEST_BESIDE || ns * LEAST_WORK < waited_ns {
            return None;
        }
        let all: Vec<Vec<RawFrame>> = samples.iter().map(|one| one.frames.clone()).collect();
        let mut found: Vec<(Option<String>, usize, Vec<Frame>)> = Vec::new();
        for frames in all {
            let frames = self.symbolizer.frames(&frames);
            let call = blocking_call(&frames).map(|call| call.function);
            match found.iter_mut().find(|(known, ..)| *known == call) {
                Some((_, count, _)) => *count += 1,
                None => found.push((call, 1, frames)),
            }
        }
        let (_, _, frames) = found.into_iter().max_by_key(|(_, count, _)| *count)?;
        Some(Work { frames, ns })
    }
}

/// A thread's name, as the kernel keeps it: up to a NUL.
fn thread_name(comm: &[u8]) -> String {
    let name = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}
