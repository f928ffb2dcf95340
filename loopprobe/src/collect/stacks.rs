//! Stacks of long polls: unwound as they come, named only when their poll turns out to be long.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    sync::Arc,
};

use loopprobe_common::records::{self, Kind, STACK_BYTES, STACK_HEAD, StackRecord, TakerRecord};

use super::{
    Options,
    gap::{Gap, Place},
    polls::PollKey,
    regions::Regions,
    runtime_code::RuntimeCode,
    stuck::SeenStack,
};
use crate::{
    attach::PlannedImage,
    code::{SPIN_WAIT_BYTES, is_spin_wait},
    diagnose::{
        CpuQuota, Descriptors, Halt, Object, Objects, PollEvidence, RawSyscall, SeenFile,
        StackEvidence, Taker, Waker, Work, blocking_call, diagnose,
    },
    elf::ProcAddr,
    model::{Frame, LongPoll, Lost, Outcome, Stack, StackKind},
    process::{ProcessError, Status},
    symbolize::{PerfMap, Symbolizer},
    unwind::{
        Means, Memory, Module, PollFunctions, RawFrame, RawStack, Registers, Unwinder, Unwound,
    },
};

/// Different stacks kept of one poll; more are counted as lost.
const MAX_STACKS: usize = 256;

/// Stacks whose poll has ended below the threshold are dropped after this long.
const KEEP_NS: u64 = 2_000_000_000;

/// With stacks of more polls than this they are dropped then even if a poll's record may still wait to be looked at.
const MAX_POLLS: usize = 1 << 15;

/// So many samples of threads beside polls are kept, and for so long.
const MAX_BESIDE: usize = 512;
const KEEP_BESIDE_NS: u64 = 5_000_000_000;
/// A tenth.
const LEAST_WORK: u64 = 10;
/// Fewer samples tell nothing of what a thread did.
const FEWEST_BESIDE: usize = 3;

/// Makes a long poll's stacks and diagnosis.
pub struct Stacks {
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
    /// How much time a sample stands for.
    sample_ns: u64,
    memory: Memory,
    /// What was lost on the way.
    pub lost: Lost,
}

/// A sample of a thread that is in no poll.
#[derive(Clone, Debug)]
struct Beside {
    tid: u32,
    ns: u64,
    frames: Vec<RawFrame>,
}

impl std::fmt::Debug for Stacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stacks")
            .field("polls", &self.polls.len())
            .finish_non_exhaustive()
    }
}

/// What was seen of one poll.
#[derive(Debug, Default)]
struct Taken {
    last_ns: u64,
    /// Whether its poll had ended at the last tick.
    done: bool,
    stacks: Vec<Seen>,
    /// Who had the CPU meanwhile.
    takers: Vec<Taker>,
    /// Who ended waits of which the own stack has not come yet.
    wakers: Vec<SeenWaker>,
    /// The first stack that showed that the poll had ended, although its end had not been seen.
    left: Option<Left>,
    /// When a stack last showed that the poll was open.
    open_ns: u64,
    /// Of a root future: where the thread was.
    gap: Gap,
}

/// A moment at which a poll had ended already, and what it had waited by then.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// When.
    pub ns: u64,
    /// How long the thread had been blocked since the poll began.
    pub blocked_ns: u64,
    /// How long it had been ready without a CPU since then.
    pub runnable_ns: u64,
}

/// Who ended a wait.
#[derive(Clone, Debug)]
struct SeenWaker {
    /// When the wait began.
    off_ns: u64,
    /// When it ended.
    woken_ns: u64,
    tid: u32,
    /// Its name, read at once: many such threads end soon.
    name: String,
    /// What it woke: the first argument of its system call.
    futex: u64,
    frames: Vec<RawFrame>,
}

/// One stack, and how often or how long it was seen.
#[derive(Clone, Debug)]
struct Seen {
    frames: Vec<RawFrame>,
    outcome: Outcome,
    syscall: Option<RawSyscall>,
    object: Option<Object>,
    start_ns: u64,
    blocked_ns: u64,
    runnable_ns: u64,
    samples: u32,
    /// Whether a page fault stopped it, or a sample found it in one.
    page_fault: bool,
    /// What stopped it from outside.
    halt: Option<Halt>,
    /// Who ended the longest of these waits, and how long that was.
    waker: Option<(SeenWaker, u64)>,
}

impl Stacks {
    /// For a process.
    ///
    /// # Errors
    ///
    /// If its memory map cannot be read.
    pub fn new(options: &Options) -> Result<Self, ProcessError> {
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
            sample_ns: 1_000_000_000 / u64::from(options.sample_hz.max(1)),
            memory: Memory::of(options.pid),
            lost: Lost::default(),
        })
    }

    /// The process has executed another program.
    pub fn reload(&mut self) {
        // If it has ended meanwhile, no stack will come any more.
        let _ = self.unwinder.reload();
    }

    /// Entry-only timing: stacks tell whether their polls are still open.
    pub fn tell_ends(&mut self, functions: &PollFunctions) {
        self.functions = Some(functions.clone());
    }

    /// Which files hold the runtime, where that has changed.
    pub fn tell_runtimes(&mut self, planned: &[PlannedImage]) {
        self.runtime = RuntimeCode::of(planned);
    }

    /// Where a thread was between two polls.
    pub fn gap(&self, key: PollKey) -> Gap {
        self.polls
            .get(&key)
            .map_or_else(Gap::default, |taken| taken.gap.clone())
    }

    /// Drops what was seen of a poll.
    pub fn forget(&mut self, key: PollKey) {
        self.polls.remove(&key);
    }

    /// Adds stacks and diagnosis to a part of a gap.
    pub fn explain_part(&mut self, key: PollKey, poll: &mut LongPoll, now_ns: u64) {
        let end_ns = poll.start_ns + poll.duration_ns;
        let mut part = Taken::default();
        if let Some(taken) = self.polls.get(&key) {
            part.stacks.clone_from(&taken.stacks);
            part.stacks
                .retain(|seen| (poll.start_ns..=end_ns).contains(&seen.start_ns));
        }
        self.describe(poll, part, now_ns);
    }

    /// Where a poll was seen to have ended at the latest, if its end was not seen.
    pub fn left(&self, key: PollKey) -> Option<Left> {
        self.polls.get(&key)?.left
    }

    /// When a poll was last seen open on its stack; 0 if never.
    pub fn seen_open_ns(&self, key: PollKey) -> u64 {
        self.polls.get(&key).map_or(0, |taken| taken.open_ns)
    }

    /// Reads what must be read a few times a second, and forgets polls that were not long. `all_seen`: no record waits to be looked
    /// at, but for those of the last moment, so a poll that is over at two such ticks was not long.
    pub fn tick(&mut self, now_ns: u64, all_seen: bool, is_open: impl Fn(PollKey) -> bool) {
        if let Some(quota) = &mut self.quota {
            quota.read(now_ns);
        }
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
    pub fn taken(&mut self, record: &TakerRecord) {
        let name = record.name.split(|&byte| byte == 0).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        let process = (record.process != self.pid).then_some(record.process);
        let taken = self.polls.entry((record.tid, record.poll_ns)).or_default();
        taken.last_ns = taken.last_ns.max(record.poll_ns + record.waited_ns);
        let same = |taker: &&mut Taker| taker.name == name && taker.process == process;
        let has_room = taken.takers.len() < MAX_STACKS;
        match taken.takers.iter_mut().find(same) {
            Some(taker) => taker.waited_ns += record.waited_ns,
            None if has_room => taken.takers.push(Taker {
                name,
                process,
                waited_ns: record.waited_ns,
            }),
            None => {}
        }
    }

    /// The stack of a thread that ends a wait inside a poll.
    pub fn woken(&mut self, record: &StackRecord, bytes: &[u8]) {
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
                name: thread_name(self.pid, record.waker),
                futex: record.args[0],
                frames,
            });
        }
    }

    /// A sample of a thread that is in no poll, and may do what one waits for.
    pub fn beside(&mut self, record: &StackRecord, bytes: &[u8]) {
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

    /// What the thread that ended a wait did on a CPU meanwhile, if that was a tenth of it at least.
    fn work_of(&mut self, waker: &SeenWaker) -> Option<Work> {
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

    /// A stack that the kernel side has taken.
    pub fn take(&mut self, record: &StackRecord, bytes: &[u8]) {
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
        let place = if of_task {
            Place::Unknown
        } else {
            self.runtime.place(&unwound)
        };
        let mut seen = self.seen(record, unwound, end_ns);
        let taken = self.polls.entry((record.tid, record.poll_ns)).or_default();
        taken.last_ns = end_ns;
        seen.waker = taken.waker_of(record, seen.blocked_ns);
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
        if is_open == Some(false) {
            taken.left.get_or_insert(Left {
                ns: record.start_ns,
                blocked_ns: record.blocked_ns,
                runnable_ns: record.runnable_ns,
            });
            return;
        }
        if !taken.add(seen) {
            self.lost.stacks += 1;
        }
    }

    /// Unwinds a stack. `None` if it cannot be the poll's: the stack pointer lies above the poll's entry, on the same stack,
    /// although no return was seen.
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
        let sample = record.kind == Kind::Sample as u32;
        let at_probe = is_at_entry(record)
            || RawSyscall::is_of_probe(record.syscall)
            || unwound.frames.is_empty();
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
            page_fault: !at_probe && syscall.is_none() && (!sample || record.in_kernel != 0),
            halt,
            waker: None,
        }
    }

    /// Adds stacks and diagnosis to a poll that has ended.
    pub fn explain(&mut self, key: PollKey, poll: &mut LongPoll, now_ns: u64) {
        let mut taken = self.polls.remove(&key).unwrap_or_default();
        // With entry-only timing, the thread may have stopped again before anything told that the poll had ended.
        taken.stacks.retain(|seen| seen.start_ns < now_ns);
        self.describe(poll, taken, now_ns);
    }

    /// Adds what is known so far to a poll that is still open. `current` is the stack of its thread, if that is off its CPU.
    pub fn explain_open(
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

    /// Adds stack and diagnosis to a poll that was open before the attach.
    pub fn explain_stuck(&mut self, poll: &mut LongPoll, seen: SeenStack, now_ns: u64) {
        let split = poll.split.unwrap_or_default();
        let object = seen.syscall.and_then(|call| self.objects.resolve(&call));
        let seen = Seen {
            outcome: Means::of(&seen.frames).outcome(),
            frames: seen.frames,
            syscall: seen.syscall,
            object,
            start_ns: poll.start_ns,
            blocked_ns: if seen.on_cpu { 0 } else { split.blocked_ns },
            runnable_ns: 0,
            samples: u32::from(seen.on_cpu),
            page_fault: seen.syscall.is_none() && !seen.on_cpu,
            halt: None,
            waker: None,
        };
        let taken = Taken {
            stacks: vec![seen],
            ..Taken::default()
        };
        self.describe(poll, taken, now_ns);
    }

    /// The frames of a whole stack, innermost first, without names.
    pub fn walk(&mut self, raw: &RawStack) -> Unwound {
        self.unwinder.unwind_thread(raw)
    }

    /// The functions of frames, inlined ones included.
    pub fn names(&mut self, frames: &[RawFrame]) -> Vec<Frame> {
        self.symbolizer.frames(frames)
    }

    /// What a system call is about.
    pub fn object(&self, call: &RawSyscall) -> Option<Object> {
        self.objects.resolve(call)
    }

    /// The process's modules.
    pub fn modules(&self) -> Vec<Arc<Module>> {
        self.unwinder.modules().to_vec()
    }

    fn describe(&mut self, poll: &mut LongPoll, taken: Taken, now_ns: u64) {
        let (mut seen, mut takers) = (taken.stacks, taken.takers);
        takers.sort_by_key(|taker| std::cmp::Reverse(taker.waited_ns));
        for object in seen.iter_mut().filter_map(|one| one.object.as_mut()) {
            self.descriptors.complete(object, now_ns);
        }
        if let Some(quota) = &mut self.quota {
            quota.read(now_ns);
        }
        let on_cpu_ns = poll.split.map_or(0, |split| split.on_cpu_ns);
        let samples: u32 = seen.iter().map(|s| s.samples).sum();
        let mut stacks = Vec::new();
        for one in &seen {
            stacks.extend(self.evidence(one, on_cpu_ns, samples, poll.ended));
        }
        stacks.sort_by_key(|s| std::cmp::Reverse(s.stack.ns));
        let throttle = self
            .quota
            .as_ref()
            .and_then(|quota| quota.between(poll.start_ns, poll.start_ns + poll.duration_ns));
        let databases = if stacks.iter().any(StackEvidence::is_in_sqlite) {
            self.descriptors.databases(now_ns).to_vec()
        } else {
            Vec::new()
        };
        let evidence = PollEvidence {
            split: poll.split,
            stacks,
            throttle,
            databases,
            takers,
            group: self.group(&seen),
            tracer: self.descriptors.tracer().filter(|_| is_halted(&seen)),
        };
        poll.diagnosis = Some(diagnose(&evidence));
        poll.stacks = evidence.stacks.into_iter().map(|s| s.stack).collect();
    }

    /// The control group that may have held the poll up.
    fn group(&self, seen: &[Seen]) -> Option<String> {
        let controller = seen.iter().find_map(|one| match one.halt? {
            Halt::Frozen => Some("freezer"),
            Halt::Reclaim { group: true } => Some("memory"),
            _ => None,
        })?;
        self.descriptors.group(controller)
    }

    /// Whether a sample found its thread in a small loop that waits.
    fn is_spinning(&self, seen: &Seen) -> bool {
        let Some(at) = seen.frames.first().map(|frame| frame.address) else {
            return false;
        };
        let mut code = [0; 2 * SPIN_WAIT_BYTES as usize];
        let from = ProcAddr(at.0.saturating_sub(SPIN_WAIT_BYTES));
        let read = self.memory.read(from, &mut code);
        is_spin_wait(&code[..read], at)
    }

    /// A stack that was seen blocked may have waited for a CPU as well; that is a stack of its own.
    fn evidence(
        &mut self,
        seen: &Seen,
        on_cpu_ns: u64,
        samples: u32,
        count: bool,
    ) -> Vec<StackEvidence> {
        let frames = self.symbolizer.frames(&seen.frames);
        let waker = seen.waker.as_ref().map(|(waker, _)| Waker {
            tid: waker.tid,
            name: waker.name.clone(),
            frames: self.symbolizer.frames(&waker.frames),
            work: self.work_of(waker),
        });
        let spins = seen.samples > 0 && seen.syscall.is_none() && self.is_spinning(seen);
        if count {
            self.lost.incomplete_stacks += u64::from(!seen.outcome.is_whole());
            self.lost.unresolved_frames +=
                frames.iter().filter(|f| f.function.is_none()).count() as u64;
        }
        let cpu_ns =
            (u128::from(on_cpu_ns) * u128::from(seen.samples)).checked_div(u128::from(samples));
        [
            (StackKind::OnCpu, cpu_ns.map_or(0, |ns| ns as u64)),
            (StackKind::Blocked, seen.blocked_ns),
            (StackKind::Runnable, seen.runnable_ns),
        ]
        .into_iter()
        .filter(|(_, ns)| *ns > 0)
        .map(|(kind, ns)| {
            let acts = kind != StackKind::Runnable || seen.halt == Some(Halt::Yields);
            StackEvidence {
                stack: Stack {
                    ns,
                    start_ns: seen.start_ns,
                    kind,
                    outcome: seen.outcome,
                    syscall: seen.syscall.filter(|_| acts).map(|call| call.name()),
                    frames: frames.clone(),
                },
                syscall: seen.syscall.filter(|_| acts),
                object: seen.object.clone().filter(|_| acts),
                page_fault: acts && seen.page_fault,
                halt: seen.halt.filter(|_| acts),
                waker: waker.clone().filter(|_| acts),
                spins: spins && kind == StackKind::OnCpu,
            }
        })
        .collect()
    }
}

impl Taken {
    /// Who ended the wait that a stack stands for: a thread that woke the same futex.
    fn waker_of(&mut self, record: &StackRecord, blocked_ns: u64) -> Option<(SeenWaker, u64)> {
        let is_it =
            |waker: &SeenWaker| waker.off_ns == record.start_ns && waker.futex == record.args[0];
        let at = self.wakers.iter().position(is_it)?;
        Some((self.wakers.swap_remove(at), blocked_ns))
    }

    /// `false` if there was no room.
    fn add(&mut self, seen: Seen) -> bool {
        if let Some(same) = self.stacks.iter_mut().find(|other| other.is_like(&seen)) {
            same.blocked_ns += seen.blocked_ns;
            same.runnable_ns += seen.runnable_ns;
            same.samples += seen.samples;
            same.waker = same
                .waker
                .take()
                .into_iter()
                .chain(seen.waker)
                .max_by_key(|(_, ns)| *ns);
            return true;
        }
        let room = self.stacks.len() < MAX_STACKS;
        if room {
            self.stacks.push(seen);
        }
        room
    }
}

/// The names of the process's own code, if it writes them.
fn perf_map(pid: u32) -> Option<PerfMap> {
    let status = Status::read(pid).ok()?;
    let root = File::open(format!("/proc/{pid}/root")).ok()?;
    Some(PerfMap::of(root.into(), status.inner_pid, status.uid))
}

fn is_halted(seen: &[Seen]) -> bool {
    seen.iter().any(|one| one.halt == Some(Halt::Traced))
}

/// A thread's name, or that it has ended.
fn thread_name(pid: u32, tid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"));
    name.map_or_else(
        |_| "a thread that has ended".to_owned(),
        |name| name.trim_end().to_owned(),
    )
}

impl Seen {
    fn is_like(&self, other: &Self) -> bool {
        self.outcome == other.outcome
            && (self.samples == 0) == (other.samples == 0)
            && self.syscall.map(|c| c.number) == other.syscall.map(|c| c.number)
            && self.object == other.object
            && self.page_fault == other.page_fault
            && self.halt == other.halt
            && self.frames.len() == other.frames.len()
            && self
                .frames
                .iter()
                .zip(&other.frames)
                .all(|(a, b)| a.address == b.address)
    }
}

/// Whether a thread has executed its poll's first instruction at the most. It is in the kernel there because of the entry probe's
/// breakpoint; the kernel executes the instruction, mostly a `push`, on its way back.
fn is_at_entry(record: &StackRecord) -> bool {
    const PUSHED: u64 = 8;
    let below = record.entry_sp.wrapping_sub(record.registers.sp);
    record.entry_sp != 0 && below <= PUSHED
}

/// The system call in a record.
pub fn syscall(record: &StackRecord) -> Option<RawSyscall> {
    RawSyscall::of_thread(record.syscall, record.args)
}

/// The stack in a record: in one piece or, of a large one, its innermost and its outermost part.
pub fn raw_stack(record: &StackRecord, bytes: &[u8]) -> RawStack {
    let above = record.registers.sp > record.entry_sp;
    let size = record
        .entry_sp
        .saturating_add(8)
        .saturating_sub(record.registers.sp);
    let in_one_piece = above || size <= bytes.len() as u64;
    let head = if in_one_piece || bytes.len() < STACK_BYTES {
        bytes.len()
    } else {
        STACK_HEAD
    };
    let (bytes, outermost) = bytes.split_at(head);
    RawStack {
        regs: registers(&record.registers),
        bytes: bytes.to_vec(),
        outermost: outermost.to_vec(),
        // A walk on another stack does not lead to the poll's entry.
        entry_sp: (record.entry_sp != 0 && !above).then_some(ProcAddr(record.entry_sp)),
    }
}

/// The registers that an unwinder wants.
pub fn registers(regs: &records::Registers) -> Registers {
    let [_, bx, _, _, _, _, _, _, _, _, r12, r13, r14, r15] = regs.general;
    Registers {
        ip: regs.ip,
        sp: regs.sp,
        bp: regs.bp,
        bx,
        r12,
        r13,
        r14,
        r15,
    }
}
