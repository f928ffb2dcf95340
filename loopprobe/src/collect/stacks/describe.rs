//! From what was seen of a poll to its evidence and diagnosis.

use super::{
    Stacks,
    seen::{Seen, Taken},
};
use crate::{
    code::{SPIN_WAIT_BYTES, is_spin_wait},
    diagnose::{Halt, PollEvidence, StackEvidence, Waker, blocking_call, diagnose},
    elf::ProcAddr,
    model::{Cause, Frame, LongPoll, Stack, StackKind},
    process::give_back_freed,
};

impl Stacks {
    /// Adds what a poll's stacks tell to it.
    pub(super) fn describe(&mut self, poll: &mut LongPoll, taken: Taken, now_ns: u64) {
        let files = self.symbolizer.files_read();
        self.describe_with(poll, taken, now_ns);
        if self.symbolizer.files_read() > files {
            give_back_freed();
        }
    }

    fn describe_with(&mut self, poll: &mut LongPoll, taken: Taken, now_ns: u64) {
        let (mut seen, mut takers) = (taken.stacks, taken.takers);
        takers.sort_by_key(|taker| std::cmp::Reverse(taker.had_ns));
        for object in seen.iter_mut().filter_map(|one| one.object.as_mut()) {
            self.descriptors.complete(object, now_ns);
        }
        if let Some(quota) = &mut self.quota {
            quota.read(now_ns);
        }
        if self.turns.asks(poll) {
            for one in seen.iter().filter(|one| one.samples > 0) {
                let frames = &one.frames;
                self.turns.learn(frames, &mut self.symbolizer, poll, now_ns);
            }
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
        let diagnosis = diagnose(&evidence);
        let computes = matches!(diagnosis.cause, Cause::Cpu | Cause::NeverYields);
        // Watching promises that nothing is placed.
        let is_watched = poll.bounds.is_some();
        if computes && !poll.block_in_place && !is_watched {
            self.ask_for_turns(&seen, poll.tid, now_ns);
        }
        // Where none were taken there are none to look at.
        let is_left_out = !self.are_taken && diagnosis.cause == Cause::Unknown;
        poll.diagnosis = (!is_left_out).then_some(diagnosis);
        poll.stacks = evidence.stacks.into_iter().map(|s| s.stack).collect();
    }

    /// Asks how often the loop turns in which most samples found a poll.
    fn ask_for_turns(&mut self, seen: &[Seen], tid: u32, now_ns: u64) {
        let samples = seen.iter().filter(|one| one.syscall.is_none());
        let Some(most) = samples.max_by_key(|one| one.samples) else {
            return;
        };
        let mut tids: Vec<u32> = self.polls.keys().map(|(tid, _)| *tid).collect();
        tids.sort_unstable();
        tids.dedup();
        tids.retain(|&other| other != tid);
        tids.insert(0, tid);
        let frames = &most.frames;
        self.turns.ask(frames, &mut self.symbolizer, &tids, now_ns);
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

    /// Whether nothing of a stack is to blame, and V8 is on it.
    fn may_be_javascript(&mut self, seen: &Seen, frames: &[Frame]) -> bool {
        blocking_call(frames).is_none() && self.symbolizer.holds_v8(&seen.frames)
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
        let may_be_javascript = self.may_be_javascript(seen, &frames);
        let waker = seen.waker.as_ref().map(|(waker, _)| Waker {
            tid: waker.tid,
            name: waker.name.clone(),
            frames: self.symbolizer.frames(&waker.frames),
            work: self.work_of(waker),
            looped_ns: waker.looped_ns(),
        });
        let computes = seen.samples > 0 && seen.syscall.is_none();
        let spins = computes && self.is_spinning(seen);
        let ready_loop = computes
            .then(|| self.turns.of(&seen.frames, &frames, &mut self.symbolizer))
            .flatten();
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
                may_be_javascript,
                ready_loop: ready_loop.clone().filter(|_| kind == StackKind::OnCpu),
            }
        })
        .collect()
    }
}

fn is_halted(seen: &[Seen]) -> bool {
    seen.iter().any(|one| one.halt == Some(Halt::Traced))
}
