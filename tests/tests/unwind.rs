//! Stacks of release builds are unwound completely, without frame pointers and without symbols.
//!
//! The samples come from `perf_event_open`, not from loopprobe's eBPF programs. That the walks are
//! right is judged by where they end (the C library's thread start, the one place where every
//! thread begins) and by the ids of the tasks that are found on the stacks, which the target knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use loopprobe::{
    elf::{Image, ProcAddr},
    model::Outcome,
    runtime::{RUNTIMES, RuntimeImage, ServedType, detect},
    symbolize::Symbolizer,
    unwind::{Memory, Module, OpenPoll, PollFunctions, RawFrame, RawStack, Unwinder},
};
use loopprobe_tests::{
    confined::confined,
    matrix::{self, Build, Profile},
    perf::Sampler,
    privileges::place,
    target::Target,
};

/// Enough for a share of 99 % to mean something.
const SAMPLES: usize = 500;

#[test]
fn stacks_inside_polls_are_complete_in_every_profile() -> Result<()> {
    let _place = place()?;
    for profile in [Profile::Release, Profile::Fat, Profile::Abort] {
        for stripped in [false, true] {
            let build = Build {
                profile,
                stripped,
                ..Build::DEFAULT
            };
            check(build).with_context(|| format!("{build:?}"))?;
        }
    }
    Ok(())
}

/// Samples a target that computes inside polls, and judges every stack.
fn check(build: Build) -> Result<()> {
    let program = matrix::target(build, "truth")?;
    let mut target = Target::start(&program, &["cpu", "--rounds", "150", "--gate", "inside"])?;
    target.send("go")?;
    let pid = target.pid();
    let found = confined(|| Findings::of(pid, &program))?;
    println!("{build:?}: {found:?}");
    let truth: BTreeSet<u64> = target
        .truth()?
        .iter()
        .filter_map(|poll| poll.task_id)
        .collect();
    found.check(&truth)
}

/// What the stacks of one run said.
#[derive(Debug, Default)]
struct Findings {
    /// Walks to the thread's beginning, by outcome.
    threads: BTreeMap<Outcome, usize>,
    /// Walks to a poll's entry, by outcome.
    polls: BTreeMap<Outcome, usize>,
    /// Polls whose task was found.
    with_task: usize,
    tasks: BTreeSet<u64>,
    /// Walks that should have ended elsewhere.
    wrong: usize,
}

impl Findings {
    /// Each sample is judged as soon as it is there, while most of its polls are still open.
    fn of(pid: u32, program: &Path) -> Result<Self> {
        let mut found = Self::default();
        let mut judge = Judge::new(pid, program)?;
        let mut samplers = fs::read_dir(format!("/proc/{pid}/task"))?
            .map(|entry| {
                let name = entry?.file_name();
                let tid = name.to_str().context("a number")?.parse()?;
                Sampler::of_thread(tid, 997)
            })
            .collect::<Result<Vec<_>>>()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while found.total() < SAMPLES && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            for sample in samplers.iter_mut().flat_map(Sampler::drain) {
                judge.judge(sample, &mut found)?;
            }
        }
        Ok(found)
    }

    fn total(&self) -> usize {
        self.threads.values().sum()
    }

    fn check(&self, truth: &BTreeSet<u64>) -> Result<()> {
        let total = self.total();
        let in_polls: usize = self.polls.values().sum();
        ensure!(total >= SAMPLES / 2, "only {total} samples");
        ensure!(in_polls >= total / 2, "only {in_polls} of {total} in polls");
        for outcomes in [&self.threads, &self.polls] {
            let complete = outcomes.get(&Outcome::Complete).copied().unwrap_or(0);
            let all: usize = outcomes.values().sum();
            ensure!(complete * 100 >= all * 99, "{outcomes:?}");
        }
        ensure!(self.wrong == 0, "{} walks ended elsewhere", self.wrong);
        // The task is looked up after the sample: by then some polls have ended.
        ensure!(
            self.with_task * 5 >= in_polls,
            "tasks of {} of {in_polls} polls",
            self.with_task
        );
        ensure!(
            self.tasks.is_subset(truth) && self.tasks.len() >= 2,
            "tasks {:?}, in truth {truth:?}",
            self.tasks
        );
        Ok(())
    }
}

struct Judge {
    unwinder: Unwinder,
    symbolizer: Symbolizer,
    memory: Memory,
    functions: PollFunctions,
    image: Arc<dyn RuntimeImage>,
    module: Arc<Module>,
}

impl Judge {
    fn new(pid: u32, program: &Path) -> Result<Self> {
        let unwinder = Unwinder::new(pid)?;
        let module = unwinder
            .modules()
            .iter()
            .find(|module| module.path() == program)
            .context("the program is mapped")?
            .clone();
        let found = detect(RUNTIMES, &Image::open(program)?, None)?.pop();
        let image = found.context("the program has a runtime")?;
        let mut functions = PollFunctions::default();
        functions.add(&module, &image);
        Ok(Self {
            unwinder,
            symbolizer: Symbolizer::new(&[]),
            memory: Memory::of(pid),
            functions,
            image,
            module,
        })
    }

    fn judge(&mut self, sample: RawStack, found: &mut Findings) -> Result<()> {
        let walk = self.unwinder.unwind(sample.clone());
        *found.threads.entry(walk.outcome).or_default() += 1;
        if walk.outcome != Outcome::Complete {
            return Ok(());
        }
        if !self.begins_a_thread(&walk.frames) {
            found.wrong += 1;
        }
        // A worker is itself inside the poll of a blocking task: the innermost poll is the async
        // one.
        let polls = self
            .functions
            .open_polls(&self.memory, &sample, &walk.frames);
        let Some(poll) = polls.iter().find(|poll| self.is_async(poll)) else {
            return Ok(());
        };
        let frames = walk.frames.len();
        let bounded = self.unwinder.unwind(RawStack {
            entry_sp: Some(poll.entry_sp),
            ..sample
        });
        *found.polls.entry(bounded.outcome).or_default() += 1;
        if bounded.outcome == Outcome::Complete && bounded.frames.len() != poll.frame + 1 {
            found.wrong += 1;
        }
        ensure!(poll.frame + 1 < frames, "the poll has no caller");
        found.with_task += usize::from(poll.task.is_some());
        found.tasks.extend(self.task_id(poll));
        Ok(())
    }

    /// Whether the outermost frame is the C library's start of a thread, or of the program.
    fn begins_a_thread(&mut self, frames: &[RawFrame]) -> bool {
        let outermost = frames.last().map(std::slice::from_ref).unwrap_or_default();
        self.symbolizer.frames(outermost).iter().any(|frame| {
            frame.function.as_deref().is_some_and(|name| {
                ["clone", "__clone", "__clone3", "clone3", "_start"].contains(&name)
            }) || frame
                .module
                .as_deref()
                .is_some_and(|module| module.contains("libc.so"))
        })
    }

    fn is_async(&self, poll: &OpenPoll) -> bool {
        self.types()
            .filter(|served| poll.keys.contains(&served.key))
            .any(|served| served.id_offset - served.scheduler_offset == 8)
    }

    fn types(&self) -> impl Iterator<Item = &ServedType> {
        self.image.facts().sites.iter().flat_map(|site| &site.types)
    }

    fn task_id(&self, poll: &OpenPoll) -> Option<u64> {
        let task = poll.task?;
        let served = self.types().find(|served| served.key == task.key)?;
        debug_assert_eq!(poll.module, self.module.id());
        self.memory
            .word(ProcAddr(task.header.0 + u64::from(served.id_offset)))
    }
}
