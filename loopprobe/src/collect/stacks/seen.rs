//! What was seen of one poll: its stacks, who had the CPU meanwhile, and who ended its waits.

use std::ops::Range;

use loopprobe_common::records::StackRecord;

use crate::{
    collect::{
        gap::Gap,
        source::watch::{Owner, Proven},
    },
    diagnose::{Halt, Object, RawSyscall, Taker},
    model::Outcome,
    unwind::{Means, RawFrame},
};

/// Different stacks kept of one poll; more are counted as lost.
pub(super) const MAX_STACKS: usize = 256;

/// What was seen of one poll.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) last_ns: u64,
    /// Whether its poll had ended at the last tick.
    pub(super) done: bool,
    pub(super) stacks: Vec<Seen>,
    /// Who had the CPU meanwhile.
    pub(super) takers: Vec<Taker>,
    /// Who ended waits of which the own stack has not come yet.
    pub(super) wakers: Vec<SeenWaker>,
    /// The first stack that showed that the poll had ended, although its end had not been seen.
    pub(super) left: Option<Left>,
    /// When a stack last showed that the poll was open.
    pub(super) open_ns: u64,
    /// Whose poll it is, where it is watched.
    pub(super) owner: Option<Owner>,
    /// Of a root future: where the thread was.
    pub(super) gap: Gap,
}

/// A moment at which a poll had ended already, and what it had waited by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    /// When.
    pub ns: u64,
    /// How long the thread had been blocked since the poll began.
    pub blocked_ns: u64,
    /// How long it had been ready without a CPU since then.
    pub runnable_ns: u64,
}

/// Who ended a wait.
#[derive(Clone, Debug)]
pub(super) struct SeenWaker {
    /// When the wait began.
    pub(super) off_ns: u64,
    /// When it ended.
    pub(super) woken_ns: u64,
    pub(super) tid: u32,
    /// Its name.
    pub(super) name: String,
    /// What it woke: the first argument of its system call. `None` of a thread that ended.
    pub(super) futex: Option<u64>,
    /// Its last wait in an event loop of its own.
    pub(super) driver: Range<u64>,
    pub(super) frames: Vec<RawFrame>,
}

/// One stack, and how often or how long it was seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) frames: Vec<RawFrame>,
    pub(super) outcome: Outcome,
    pub(super) syscall: Option<RawSyscall>,
    pub(super) object: Option<Object>,
    pub(super) start_ns: u64,
    pub(super) blocked_ns: u64,
    pub(super) runnable_ns: u64,
    pub(super) samples: u32,
    /// Whether a page fault stopped it, or a sample found it in one.
    pub(super) page_fault: bool,
    /// What stopped it from outside.
    pub(super) halt: Option<Halt>,
    /// Who ended the longest of these waits, and how long that was.
    pub(super) waker: Option<(SeenWaker, u64)>,
}

impl SeenWaker {
    /// For how long of the wait it waited itself, in an event loop of its own, in nanoseconds.
    pub(super) fn looped_ns(&self) -> u64 {
        let from_ns = self.driver.start.max(self.off_ns);
        self.driver.end.min(self.woken_ns).saturating_sub(from_ns)
    }
}

impl Taken {
    /// Who ended the wait that a stack stands for: a thread that woke the same futex.
    pub(super) fn waker_of(
        &mut self,
        record: &StackRecord,
        blocked_ns: u64,
    ) -> Option<(SeenWaker, u64)> {
        let is_it = |waker: &SeenWaker| {
            waker.off_ns == record.start_ns
                && waker.futex.is_none_or(|futex| futex == record.args[0])
        };
        let at = self.wakers.iter().position(is_it)?;
        Some((self.wakers.swap_remove(at), blocked_ns))
    }

    /// `false` if there was no room.
    pub(super) fn add(&mut self, seen: Seen) -> bool {
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

impl Taken {
    /// Of several stacks, which may be other polls' of the same task, keeps the one of this wait,
    /// or the one that waited longest.
    pub(super) fn keep_of(&mut self, wait: &Proven) {
        self.stacks.retain(|seen| seen.samples == 0);
        let of_wait = |seen: &Seen| (seen.start_ns == wait.start_ns, seen.blocked_ns);
        self.stacks
            .sort_by_key(|seen| std::cmp::Reverse(of_wait(seen)));
        self.stacks.truncate(1);
        for seen in &mut self.stacks {
            seen.blocked_ns = seen.blocked_ns.min(wait.split.blocked_ns);
            seen.runnable_ns = seen.runnable_ns.min(wait.split.runnable_ns);
        }
        let (from_ns, to_ns) = (wait.start_ns, wait.start_ns + wait.ns);
        self.wakers
            .retain(|waker| (from_ns..=to_ns).contains(&waker.off_ns));
    }
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

/// The stack of a poll that began before the attach, at one look at it.
#[derive(Clone, Debug)]
pub(in crate::collect) struct SeenStack {
    /// Innermost first, up to the poll function.
    pub(in crate::collect) frames: Vec<RawFrame>,
    /// The system call that the thread was in; `None` in its own code.
    pub(in crate::collect) syscall: Option<RawSyscall>,
    /// Whether it was on a CPU.
    pub(in crate::collect) on_cpu: bool,
    /// Whether it was in the kernel for a page fault.
    pub(in crate::collect) page_fault: bool,
}

impl SeenStack {
    /// Of a thread that waits.
    pub(in crate::collect) fn waiting(frames: Vec<RawFrame>, syscall: Option<RawSyscall>) -> Self {
        Self {
            page_fault: syscall.is_none(),
            frames,
            syscall,
            on_cpu: false,
        }
    }

    /// As a stack of its poll: a sample, or what all of the blocked time was spent on.
    pub(super) fn stands_for(self, object: Option<Object>, start_ns: u64, blocked_ns: u64) -> Seen {
        Seen {
            outcome: Means::of(&self.frames).outcome(),
            frames: self.frames,
            syscall: self.syscall,
            object,
            start_ns,
            blocked_ns: if self.on_cpu { 0 } else { blocked_ns },
            runnable_ns: 0,
            samples: u32::from(self.on_cpu),
            page_fault: self.page_fault,
            halt: None,
            waker: None,
        }
    }
}
