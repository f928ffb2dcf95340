//! Stacks of long polls: unwound as they come, named only when their poll turns out to be long.

mod describe;
mod gaps;
mod looks;
mod own;
mod record;
mod seen;
mod turns;
mod wakers;
mod watched;
mod whole;

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
};

use loopprobe_common::records::{Kind, StackRecord, StackSlot, TakerRecord};

pub(super) use self::{
    looks::Looks,
    record::{bytes_of, in_page_fault, raw_stack, registers, syscall},
    seen::{Left, SeenStack},
};
use self::{
    seen::{MAX_STACKS, Seen, Taken},
    turns::Turns,
    wakers::Beside,
};
use super::{Options, gap::Place, poll_key::PollKey, regions::Regions, runtime_code::RuntimeCode};
use crate::{
    attach::PlannedImage,
    diagnose::{CpuQuota, Descriptors, Halt, Objects, SeenFile, Taker},
    model::{LongPoll, Lost, Outcome},
    process::{ProcessError, Status},
    symbolize::{PerfMap, Symbolizer},
    unwind::{Memory, PollFunctions, Unwinder, Unwound},
};

/// Stacks whose poll has ended below the threshold are dropped after this long.
const KEEP_NS: u64 = 2_000_000_000;

/// With stacks of more polls than this they are dropped then even if a poll's record may still wait
/// to be looked at.
const MAX_POLLS: usize = 1 << 15;

/// Makes a long poll's stacks and diagnosis.
pub(super) struct Stacks {
    unwinder: Unwinder,
    symbolizer: Symbolizer,
    pid: u32,
    objects: Objects,
    descriptors: Descriptors,
    regions: Regions,
    quota: Option<CpuQuota>,
    polls: HashMap<PollKey, Taken>,
    /// With entry-only timing: what a poll must have on its stack to be open.
    functions: Option<PollFunctions>,
    /// What tells whether a thread is in `block_on`.
    runtime: RuntimeCode,
    /// Samples of threads that polls may wait for, oldest first.
    beside: VecDeque<Beside>,
    /// How often loops turn that polls compute in.
    turns: Turns,
    /// How much time a sample stands for.
    sample_ns: u64,
    memory: Memory,
    /// Whether any come: not while none are taken, to keep to a budget.
    pub are_taken: bool,
    /// What was lost on the way.
    pub lost: Lost,
}

impl std::fmt::Debug for Stacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stacks")
            .field("polls", &self.polls.len())
            .finish_non_exhaustive()
    }
}

impl Stacks {
    /// For a process.
    ///
    /// # Errors
    ///
    /// If its memory map cannot be read.
    pub(super) fn new(options: &Options) -> Result<Self, ProcessError> {
        Ok(Self {
            unwinder: Unwinder::new(options.pid)?,
            symbolizer: Symbolizer::new(&options.debug_files)
                .with_runtimes(options.runtimes)
                .with_perf_map(perf_map(options.pid)),
            pid: options.pid,
            objects: Objects::of(options.pid),
            descriptors: Descriptors::of(options.pid),
            regions: Regions::of(options.pid),
            quota: CpuQuota::of(options.pid),
            polls: HashMap::new(),
            functions: None,
            runtime: RuntimeCode::default(),
            beside: VecDeque::new(),
            turns: Turns::default(),
            sample_ns: 1_000_000_000 / u64::from(options.sample_hz.max(1)),
            memory: Memory::of(options.pid),
            are_taken: true,
            lost: Lost::default(),
        })
    }

    /// The process has executed another program.
    pub(super) fn reload(&mut self) {
        // If it has ended meanwhile, no stack will come any more.
        let _ = self.unwinder.reload();
    }

    /// With entry-only timing, stacks tell whether their polls are still open; `None` without it.
    pub(super) fn tell_ends(&mut self, functions: Option<&PollFunctions>) {
        self.functions = functions.cloned();
    }

    /// Which files hold the runtime, where that has changed.
    pub(super) fn tell_runtimes(&mut self, planned: &[PlannedImage]) {
        self.runtime = RuntimeCode::of(planned);
    }

    /// Where a thread is now whose stack is kept.
    pub(super) fn place(&mut self, slot: &StackSlot) -> Place {
        let unwound = self
            .unwinder
            .unwind(raw_stack(&slot.record, bytes_of(slot)));
        self.runtime.place(&unwound)
    }

    /// Drops what was seen of a poll.
    pub(super) fn forget(&mut self, key: PollKey) {
        self.polls.remove(&key);
    }

    /// Where a poll was seen to have ended at the latest, if its end was not seen.
    pub(super) fn left(&self, key: PollKey) -> Option<Left> {
        self.polls.get(&key)?.left
    }

    /// When a poll was last seen open on its stack; 0 if never.
    pub(super) fn seen_open_ns(&self, key: PollKey) -> u64 {
        self.polls.get(&key).map_or(0, |taken| taken.open_ns)
    }

    /// Reads what must be read a few times a second, and forgets polls that were not long.
    /// `all_seen`: no record waits to be looked at, but for those of the last moment, so a poll
    /// that is over at two such ticks was not long.
    pub(super) fn tick(&mut self, now_ns: u64, all_seen: bool, is_open: impl Fn(PollKey) -> bool) {
        if let Some(quota) = &mut self.quota {
            quota.read(now_ns);
        }
        self.turns.tick(now_ns);
        let crowded = self.polls.len() > MAX_POLLS;
        if !all_seen && !crowded {
            return;
        }
        let lost = &mut self.lost.stacks;
        self.polls.retain(|key, taken| {
            let done = taken.last_ns + KEEP_NS <= now_ns && !is_open(*key);
            let dropped = done && (taken.done || crowded);
            if dropped && !all_seen {
                *lost += taken.stacks.len() as u64;
            }
            taken.done = done;
            !dropped
        });
    }

    /// Who had the CPU that a poll waited for.
    pub(super) fn taken(&mut self, record: &TakerRecord) {
        let name = record.name.split(|&byte| byte == 0).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        let process = (record.process != self.pid).then_some(record.process);
        let taken = self.polls.entry((record.tid, record.poll_ns)).or_default();
        taken.last_ns = taken.last_ns.max(record.poll_ns + record.waited_ns);
        let same = |taker: &&mut Taker| taker.name == name && taker.process == process;
        let has_room = taken.takers.len() < MAX_STACKS;
        match taken.takers.iter_mut().find(same) {
            Some(taker) => taker.had_ns += record.had_ns,
            None if has_room => taken.takers.push(Taker {
                name,
                process,
                had_ns: record.had_ns,
            }),
            None => {}
        }
    }

    /// A stack that the kernel side has taken.
    pub(super) fn take(&mut self, record: &StackRecord, bytes: &[u8]) {
        let end_ns = if record.end_ns == 0 {
            record.start_ns
        } else {
            record.end_ns
        };
        let Some(unwound) = self.unwind(record, bytes) else {
            self.lost.stacks += 1;
            return;
        };
        let of_task = record.entry_sp != 0;
        let functions = self.functions.as_ref().filter(|_| of_task);
        let is_open = functions.and_then(|functions| functions.is_open(&unwound));
        let place = if of_task && is_open != Some(false) {
            Place::Unknown
        } else {
            self.runtime.place(&unwound)
        };
        let mut seen = self.seen(record, unwound, end_ns);
        let taken = self.polls.entry((record.tid, record.poll_ns)).or_default();
        taken.last_ns = end_ns;
        seen.waker = taken.waker_of(record, seen.blocked_ns);
        if is_open == Some(false) {
            taken.left.get_or_insert(Left {
                ns: record.start_ns,
                blocked_ns: record.blocked_ns,
                runnable_ns: record.runnable_ns,
            });
            self.keep_behind(record, seen, place, end_ns);
            return;
        }
        let (from_ns, blocked_ns, runnable_ns) = (seen.start_ns, seen.blocked_ns, seen.runnable_ns);
        taken
            .gap
            .saw(place, from_ns, end_ns, blocked_ns, runnable_ns);
        if place == Place::Outside {
            return;
        }
        if is_open == Some(true) {
            taken.open_ns = taken.open_ns.max(record.start_ns);
        }
        if !taken.add(seen) {
            self.lost.stacks += 1;
        }
    }

    /// Unwinds a stack. `None` if it cannot be the poll's: the stack pointer lies above the poll's
    /// entry, on the same stack, although no return was seen.
    fn unwind(&mut self, record: &StackRecord, bytes: &[u8]) -> Option<Unwound> {
        let mut unwound = self.unwinder.unwind(raw_stack(record, bytes));
        let (sp, entry_sp) = (record.registers.sp, record.entry_sp);
        let above = entry_sp != 0 && sp > entry_sp;
        if entry_sp == 0 || (unwound.outcome.is_whole() && !above) || unwound.passed_entry {
            return Some(unwound);
        }
        if self
            .regions
            .of_address(entry_sp)
            .is_some_and(|region| !region.contains(&sp))
        {
            unwound.outcome = Outcome::OtherStack;
        } else if above {
            // With entry-only timing the kernel side may not know yet that the poll has ended.
            self.functions.as_ref()?;
            unwound.passed_entry = true;
        }
        Some(unwound)
    }

    fn seen(&mut self, record: &StackRecord, unwound: Unwound, end_ns: u64) -> Seen {
        let syscall = syscall(record);
        let file = SeenFile {
            mode: record.file_mode,
            inode: record.file_inode,
        };
        let object = syscall.and_then(|call| self.objects.resolve_seen(&call, file));
        let sample = record.kind == Kind::Sample as u16;
        let page_fault = !unwound.frames.is_empty() && in_page_fault(record, &self.memory);
        let halt = (!sample)
            .then(|| Halt::of(&record.reason, syscall.is_some()))
            .flatten();
        let ready_ns = if halt == Some(Halt::Yields) {
            record.start_ns
        } else if record.woken_ns == 0 {
            end_ns
        } else {
            record.woken_ns
        };
        Seen {
            frames: unwound.frames,
            outcome: unwound.outcome,
            syscall,
            object,
            start_ns: record.start_ns,
            blocked_ns: if sample {
                0
            } else {
                ready_ns.saturating_sub(record.start_ns) + record.unsent_ns
            },
            runnable_ns: if sample {
                0
            } else {
                end_ns.saturating_sub(ready_ns)
            },
            samples: u32::from(sample),
            page_fault,
            halt,
            waker: None,
        }
    }

    /// Adds stacks and diagnosis to a poll that has ended.
    pub(super) fn explain(&mut self, key: PollKey, poll: &mut LongPoll, now_ns: u64) {
        let mut taken = self.polls.remove(&key).unwrap_or_default();
        // With entry-only timing, the thread may have stopped again before anything told that the
        // poll had ended.
        taken.stacks.retain(|seen| seen.start_ns < now_ns);
        self.describe(poll, taken, now_ns);
    }

    /// Adds what is known so far to a poll that is still open. `current` is the stack of its
    /// thread, if that is off its CPU.
    pub(super) fn explain_open(
        &mut self,
        key: PollKey,
        poll: &mut LongPoll,
        current: Option<(&StackRecord, &[u8])>,
        now_ns: u64,
    ) {
        let mut so_far = Taken::default();
        if let Some(taken) = self.polls.get(&key) {
            so_far.stacks.clone_from(&taken.stacks);
            so_far.takers.clone_from(&taken.takers);
        }
        if let Some((record, bytes)) = current
            && let Some(unwound) = self.unwind(record, bytes)
        {
            let seen = self.seen(record, unwound, now_ns);
            so_far.add(seen);
        }
        self.describe(poll, so_far, now_ns);
    }

    /// Adds stacks and diagnosis to a poll that was open before the attach.
    pub(super) fn explain_stuck(&mut self, poll: &mut LongPoll, looks: Looks, now_ns: u64) {
        let blocked_ns = poll.split.map_or(0, |split| split.blocked_ns);
        let mut taken = Taken::default();
        for look in looks.stacks() {
            let object = look.syscall.and_then(|call| self.objects.resolve(&call));
            taken.add(look.stands_for(object, poll.start_ns, blocked_ns));
        }
        self.describe(poll, taken, now_ns);
    }
}

/// The names of the process's own code, if it writes them.
fn perf_map(pid: u32) -> Option<PerfMap> {
    let status = Status::read(pid).ok()?;
    let root = File::open(format!("/proc/{pid}/root")).ok()?;
    Some(PerfMap::of(root.into(), status.inner_pid, status.uid))
}
