//! loopprobe's own check: a known block in its own process must come out at the far end, with its
//! duration, stack and cause.

use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use loopprobe_common::{
    light::answer,
    records::{Kind, PollRecord, StackRecord},
};

use super::{Options, stacks::Stacks};
use crate::{
    attach::{AttachError, Block, Kernel, Record, block},
    clock::nanoseconds,
    model::{self, Cause, LongPoll, Split, TaskType},
};

/// How long a block is, unless the threshold asks for a longer one.
const BLOCK: Duration = Duration::from_millis(20);
/// How often there is one.
const EVERY_NS: u64 = 60_000_000_000;
/// How long after its end a block may come out, once all that was sent has been looked at.
const PATIENCE_NS: u64 = 5_000_000_000;
/// The same if there is more to look at than loopprobe gets to.
const LONGEST_NS: u64 = 60_000_000_000;

/// What did not come out of a block.
const POLL: &str = "poll";
const DURATION: &str = "duration";
const STACK: &str = "stack";
const CAUSE: &str = "cause";

/// The check of a session.
pub(super) struct Canary {
    /// Of loopprobe's own process; `None` if neither stacks nor answers are wanted.
    stacks: Option<Stacks>,
    wants_stacks: bool,
    running: Option<Running>,
    next_ns: u64,
    /// What there is to say of it.
    pub(super) said: model::Canary,
}

impl std::fmt::Debug for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canary")
            .field("said", &self.said)
            .finish_non_exhaustive()
    }
}

/// A block that is under way, or not decided yet.
struct Running {
    tid: u32,
    time: Duration,
    go: Option<Sender<()>>,
    done: Receiver<Block>,
    block: Option<Block>,
    record: Option<PollRecord>,
}

impl Canary {
    /// For a session whose kernel side probes [`block`].
    pub(super) fn new(options: &Options) -> Self {
        Self {
            stacks: stacks(options),
            wants_stacks: options.stacks,
            running: None,
            next_ns: 0,
            said: model::Canary::default(),
        }
    }

    /// For a session that cannot have one.
    pub(super) fn without(why: &str) -> model::Canary {
        model::Canary {
            not_checked: Some(why.to_owned()),
            ..model::Canary::default()
        }
    }

    /// Forgets a block that is under way: its end may not be seen, or not its stack.
    pub(super) fn begin_anew(&mut self, options: &Options, wants_stacks: bool) {
        self.wants_stacks = wants_stacks;
        if self.stacks.is_none() {
            self.stacks = stacks(options);
        }
        self.running = None;
    }

    /// The thread that is to be followed, in loopprobe's pid namespace; 0 for none.
    pub(super) fn tid(&self) -> u32 {
        self.running.as_ref().map_or(0, |running| running.tid)
    }

    /// Whether the next block is due.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        self.running.is_none() && now_ns >= self.next_ns
    }

    /// Starts the thread of the next block; it waits for [`Self::go`].
    ///
    /// # Errors
    ///
    /// If there is no thread left.
    pub(super) fn begin(&mut self, options: &Options, now_ns: u64) -> io::Result<()> {
        // Longer than what must be seen of it.
        let least = options.threshold.max(options.least_block());
        let time = BLOCK.max(least.saturating_mul(2));
        self.next_ns = now_ns.saturating_add(EVERY_NS);
        self.said.block_ns = nanoseconds(time);
        let (says_tid, tid) = channel();
        let (go, waits) = channel();
        let (says_done, done) = channel();
        let thread = thread::Builder::new().name("loopprobe-check".into());
        thread.spawn(move || {
            let _ = says_tid.send(nix::unistd::gettid().as_raw().cast_unsigned());
            if waits.recv().is_ok() {
                let _ = says_done.send(block(time));
            }
        })?;
        self.running = Some(Running {
            tid: tid.recv().map_err(io::Error::other)?,
            time,
            go: Some(go),
            done,
            block: None,
            record: None,
        });
        Ok(())
    }

    /// The kernel side knows of the thread: it may block.
    pub(super) fn go(&mut self) {
        if let Some(go) = self.running.as_mut().and_then(|running| running.go.take()) {
            let _ = go.send(());
        }
    }

    /// Takes what is of its thread; `false` for what is the target's.
    ///
    /// # Errors
    ///
    /// [`AttachError::Map`].
    pub(super) fn take(
        &mut self,
        record: &Record<'_>,
        kernel: &mut Kernel,
    ) -> Result<bool, AttachError> {
        let Some(running) = &mut self.running else {
            return Ok(false);
        };
        match record {
            Record::Poll(poll) | Record::Unsettled(poll) if poll.tid == running.tid => {
                running.record = Some(*poll);
            }
            Record::Stack(stack, bytes) if stack.tid == running.tid => {
                let Some(stacks) = &mut self.stacks else {
                    return Ok(true);
                };
                if stack.kind == Kind::Question as u16 {
                    answer(stacks, stack, bytes, kernel)?;
                } else if stack.kind == Kind::OffCpu as u16 || stack.kind == Kind::Sample as u16 {
                    stacks.take(stack, bytes);
                }
            }
            Record::Taker(taker) if taker.tid == running.tid => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Decides on a block that has come out, or had the time to. `all_seen`: no record waits to be
    /// looked at.
    pub(super) fn decide(&mut self, now_ns: u64, all_seen: bool) -> Option<Verdict> {
        let running = self.running.as_mut()?;
        if running.block.is_none() {
            running.block = running.done.try_recv().ok();
        }
        let block = running.block?;
        let waited_ns = now_ns.saturating_sub(block.end_ns);
        let in_vain = (waited_ns > PATIENCE_NS && all_seen) || waited_ns > LONGEST_NS;
        if running.record.is_none() && !in_vain {
            return None;
        }
        let running = self.running.take()?;
        let poll = running.record.map(|record| self.explained(&record, now_ns));
        let before = self.said.ok;
        let missing = missing(poll.as_ref(), block, self.wants_stacks);
        self.said.checks += 1;
        self.said.ok = Some(missing.is_empty());
        if missing.is_empty() {
            return (before == Some(false)).then_some(Verdict::OutAgain);
        }
        self.said.failed += 1;
        let is_news = before != Some(false) || self.said.missing != missing;
        self.said.missing = missing.into_iter().map(str::to_owned).collect();
        is_news.then_some(Verdict::Missing(running.time))
    }

    /// The poll as the target's would be reported.
    fn explained(&mut self, record: &PollRecord, now_ns: u64) -> LongPoll {
        let duration_ns = record.end_ns.saturating_sub(record.poll.start_ns);
        let waited_ns = record.poll.blocked_ns + record.poll.runnable_ns;
        let mut poll = LongPoll {
            pid: std::process::id(),
            tid: record.tid,
            thread: String::new(),
            task_id: None,
            task: TaskType::unknown(record.poll.header),
            start_ns: record.poll.start_ns,
            duration_ns,
            bounds: None,
            ended: true,
            since_before_attach: false,
            block_in_place: false,
            split: Some(Split {
                on_cpu_ns: duration_ns.saturating_sub(waited_ns),
                runnable_ns: record.poll.runnable_ns,
                blocked_ns: record.poll.blocked_ns,
            }),
            diagnosis: None,
            stacks: Vec::new(),
        };
        if let Some(stacks) = &mut self.stacks {
            stacks.explain((record.tid, record.poll.start_ns), &mut poll, now_ns);
        }
        poll
    }
}

/// Of loopprobe's own process, where they are wanted or answers are.
fn stacks(options: &Options) -> Option<Stacks> {
    let wants = options.stacks || options.is_light();
    wants.then(|| Stacks::of_own(options).ok()).flatten()
}

/// News of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something of a block of this length did not come out.
    Missing(Duration),
    /// One has come out after others that had not.
    OutAgain,
}

/// With entry-only timing: says that the block is still open where its thread has stopped, if its
/// stack shows that.
fn answer(
    stacks: &mut Stacks,
    record: &StackRecord,
    bytes: &[u8],
    kernel: &mut Kernel,
) -> Result<(), AttachError> {
    let seen = match stacks.leads_to_entry(record, bytes) {
        true => answer::OPEN,
        false => answer::UNKNOWN,
    };
    kernel.answer(&record.place, seen)
}

/// What did not come out of a block.
fn missing(poll: Option<&LongPoll>, block: Block, wants_stacks: bool) -> Vec<&'static str> {
    let Some(poll) = poll else {
        return vec![POLL];
    };
    let end_ns = poll.start_ns + poll.duration_ns;
    let covers = poll.start_ns <= block.start_ns && end_ns >= block.end_ns;
    // It was woken when the time was over at the earliest.
    let slept_ns = poll.split.map_or(0, |split| split.blocked_ns);
    let has_slept = slept_ns.saturating_mul(2) >= block.end_ns - block.start_ns
        || poll.split.is_some_and(|split| split.runnable_ns > slept_ns);
    let mut missing = Vec::new();
    if !(covers && has_slept) {
        missing.push(DURATION);
    }
    if wants_stacks && !poll.stacks.iter().any(|stack| stack.outcome.is_whole()) {
        missing.push(STACK);
    }
    let cause = poll.diagnosis.as_ref().map(|found| found.cause);
    // On a crowded machine the thread may have waited longer for a CPU.
    let explained = cause.is_some_and(|cause| cause == Cause::Sleep || cause.is_others());
    if wants_stacks && !explained {
        missing.push(CAUSE);
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Diagnosis, Outcome, Stack, StackKind};

    const MS: u64 = 1_000_000;
    const BLOCK: Block = Block {
        start_ns: 100 * MS,
        end_ns: 120 * MS,
    };

    fn poll(cause: Cause) -> LongPoll {
        LongPoll {
            pid: 1,
            tid: 7,
            thread: String::new(),
            task_id: None,
            task: TaskType::unknown(0),
            start_ns: BLOCK.start_ns - 2_000,
            duration_ns: 20 * MS + 4_000,
            bounds: None,
            ended: true,
            since_before_attach: false,
            block_in_place: false,
            split: Some(Split {
                blocked_ns: 20 * MS,
                ..Split::default()
            }),
            diagnosis: Some(Diagnosis {
                cause,
                call: None,
                innermost: None,
                evidence: std::collections::BTreeMap::new(),
                advice: String::new(),
                own_ns: None,
            }),
            stacks: vec![Stack {
                ns: 20 * MS,
                start_ns: BLOCK.start_ns,
                kind: StackKind::Blocked,
                outcome: Outcome::Complete,
                syscall: None,
                frames: Vec::new(),
            }],
        }
    }

    #[test]
    fn what_did_not_come_out_is_named() {
        let good = poll(Cause::Sleep);
        assert!(missing(Some(&good), BLOCK, true).is_empty());
        assert_eq!(missing(None, BLOCK, true), [POLL]);
        let mut short = good.clone();
        short.duration_ns -= 5_000;
        assert_eq!(missing(Some(&short), BLOCK, true), [DURATION]);
        let mut awake = good.clone();
        awake.split = Some(Split::default());
        assert_eq!(missing(Some(&awake), BLOCK, true), [DURATION]);
        let mut bare = good;
        bare.stacks[0].outcome = Outcome::Truncated;
        assert_eq!(missing(Some(&bare), BLOCK, true), [STACK]);
        assert_eq!(missing(Some(&poll(Cause::Unknown)), BLOCK, true), [CAUSE]);
        bare.diagnosis = None;
        assert!(missing(Some(&bare), BLOCK, false).is_empty());
    }

    fn canary(done_at: Option<Block>) -> Canary {
        let (says_done, done) = channel();
        if let Some(block) = done_at {
            says_done.send(block).unwrap();
        }
        Canary {
            stacks: None,
            wants_stacks: false,
            running: Some(Running {
                tid: 7,
                time: Duration::from_millis(20),
                go: None,
                done,
                block: None,
                record: None,
            }),
            next_ns: 0,
            said: model::Canary::default(),
        }
    }

    #[test]
    fn a_block_that_does_not_come_out_fails_once_all_was_looked_at() {
        let mut check = canary(Some(BLOCK));
        let late = BLOCK.end_ns + PATIENCE_NS + 1;
        assert_eq!(check.decide(BLOCK.end_ns + 1, true), None);
        assert_eq!(check.decide(late, false), None);
        assert_eq!(check.said.ok, None);
        let verdict = check.decide(late, true);
        assert_eq!(verdict, Some(Verdict::Missing(Duration::from_millis(20))));
        assert_eq!((check.said.ok, check.said.failed), (Some(false), 1));
        assert_eq!(check.said.missing, [POLL]);
    }

    #[test]
    fn a_block_that_is_not_over_is_not_decided() {
        let mut check = canary(None);
        assert_eq!(check.decide(u64::MAX, true), None);
        assert_eq!(check.said.checks, 0);
    }
}
