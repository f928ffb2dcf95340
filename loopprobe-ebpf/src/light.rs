//! Entry-only timing: finds out where polls end without return probes. See
//! `loopprobe_common::light` for how.

use loopprobe_common::{
    counters::Counter,
    light::{Answered, Place, Question, answer},
    records::Kind,
    thread::{OpenPoll, Thread},
};

use crate::{
    arch,
    ending::{drop_missed, tally},
    event::{self, End},
    health,
    maps::{ANSWERS, config, count, is_light},
    root, saved, stack,
    verifier::forget_ways,
};

/// How many polls are ended at once: the verifier follows each through every way that it can end,
/// which takes the kernel 0.1 s a poll. Deeper ones have to wait for the thread's next stop.
const AT_ONCE: usize = 2;

/// What a thread does from which it can be told where it is.
pub struct Stop {
    pub sp: u64,
    pub ip: u64,
    pub what: u64,
}

impl Stop {
    /// The current thread goes off its CPU in a system call or a page fault.
    #[inline(never)]
    pub fn waiting() -> Option<Self> {
        let regs = saved::user_registers()?;
        let user = arch::user(&regs);
        let syscall = arch::syscall(&regs);
        let descriptor = (arch::arguments(&regs)[0] << 32) & mask(arch::is_epoll(syscall));
        Some(Self {
            sp: arch::stack_pointer(user),
            ip: arch::instruction_pointer(user),
            what: u64::from(syscall as u32) | descriptor,
        })
    }

    /// Where that is, seen from the thread's innermost poll, which began with the stack pointer
    /// `entry`.
    #[inline(always)]
    fn place(&self, thread: &Thread, entry: u64) -> Place {
        let distance = entry - self.sp;
        let is_deep = (distance >= Place::DEEP_BYTES) & is_worker_in_one(thread);
        Place {
            ip: self.ip,
            distance: distance | (Place::DEEP & mask(is_deep)),
            what: self.what,
            target: u64::from(thread.target),
        }
    }

    /// Whether the stack pointer is on another stack than the one that the poll began on: a worker
    /// does not go that far back without ending.
    #[inline(always)]
    fn is_elsewhere(&self, thread: &Thread, entry: u64) -> bool {
        const FAR: u64 = 64 * 1024;
        self.sp > entry + FAR && is_worker_in_one(thread)
    }
}

/// All bits or none. Without a branch: each multiplies the ways that the verifier follows.
#[inline(always)]
fn mask(all: bool) -> u64 {
    core::hint::black_box(u64::from(all)).wrapping_neg()
}

/// Whether the thread is a worker of a scheduler that many threads share, in its only poll.
#[inline(always)]
fn is_worker_in_one(thread: &Thread) -> bool {
    (thread.depth == 1) & (thread.flags & (Thread::SHARED | Thread::LOCAL) == Thread::SHARED)
}

/// Runs what ends or begins polls of the thread at a probe. If the thread is preempted meanwhile,
/// in the middle of it, the program of that switch leaves the polls alone ([`is_settling`]): seen
/// with `preempt=full`, where one poll was ended twice, and the depth fell below 0.
#[inline(always)]
pub fn at_probe<R>(thread: &mut Thread, work: impl FnOnce(&mut Thread) -> R) -> R {
    if is_light() {
        mark(thread, 1);
    }
    let result = work(thread);
    if is_light() {
        mark(thread, 0);
    }
    result
}

#[inline(always)]
fn mark(thread: &mut Thread, is_settling: u64) {
    // SAFETY: the field is the thread's. The compiler may not move or drop the write: another
    // program reads the field before the next one.
    unsafe { (&raw mut thread.is_settling).write_volatile(is_settling) };
}

/// Whether the current thread, which goes off its CPU, was about to end or begin polls.
#[inline(always)]
pub fn is_settling(thread: &Thread) -> bool {
    thread.is_settling != 0
}

/// Ends the polls that lie at or below `sp`: an inner poll's stack pointer is always below the
/// outer one's.
#[inline(never)]
pub fn close(thread: &mut Thread, sp: u64, now: u64) {
    for _ in 0..AT_ONCE {
        if thread
            .innermost()
            .is_none_or(|poll| poll.stack_pointer > sp)
        {
            return;
        }
        end(thread, now);
    }
    drop_missed(thread, sp);
    if thread.question.depth > thread.depth {
        thread.question.place.ip = 0;
    }
}

/// Ends the polls that the thread has left.
#[inline(never)]
pub fn settle(thread: &mut Thread, stop: &Stop, now: u64) {
    for _ in 0..AT_ONCE {
        let Some(entry) = thread.innermost().map(|poll| poll.stack_pointer) else {
            break;
        };
        if stays_open(thread, stop, entry, now) {
            return;
        }
        end(thread, now);
    }
    root::follow(thread, now);
}

/// Whether the innermost poll, which began with the stack pointer `entry`, is open as far as is
/// known. What is not known is asked.
#[inline(always)]
fn stays_open(thread: &mut Thread, stop: &Stop, entry: u64, now: u64) -> bool {
    let place = stop.place(thread, entry);
    let verdict = judge(thread, stop, &place, entry, now);
    let verdict = forget_ways(&mut thread.question.verdict, verdict);
    if verdict & ASK != 0 {
        stack::ask(thread, &place, stop.sp, now);
    }
    verdict & OPEN != 0
}

/// Bits of a verdict: the poll stays open; user space is asked about the place.
const OPEN: u32 = 1;
const ASK: u32 = 2;

/// A verdict on the innermost poll, which began with the stack pointer `entry`, at a place.
#[inline(never)]
fn judge(thread: &mut Thread, stop: &Stop, place: &Place, entry: u64, now: u64) -> u32 {
    if stop.sp > entry {
        if !stop.is_elsewhere(thread, entry) {
            return 0;
        }
        presume(thread);
        return OPEN;
    }
    if thread.is_in_question() {
        match answered(&thread.question.place).answer {
            answer::ENDED => return 0,
            answer::OPEN | answer::PRESUMED => thread.question.place.ip = 0,
            _ => {}
        }
    }
    let Answered {
        answer,
        asked_again,
    } = answered(place);
    let in_question = thread.is_in_question();
    let is_asked = in_question && is_same(&thread.question.place, place);
    let mut verdict = 0;
    if answer == answer::NONE {
        verdict = ASK & u32::from(!is_asked).wrapping_neg();
    } else if is_time_to_ask_again(thread, asked_again, now) {
        verdict = ASK;
        thread.asked_ns = now;
        asks_again(place);
    }
    // What is open now was open before.
    if in_question && (answer == answer::OPEN || answer == answer::PRESUMED) {
        thread.question.place.ip = 0;
    }
    let is_open = match answer {
        answer::OPEN => {
            if let Some(poll) = thread.innermost_mut() {
                poll.flags &= !OpenPoll::PRESUMED;
            }
            true
        }
        answer::PRESUMED => {
            presume(thread);
            true
        }
        answer::ENDED => false,
        _ if in_question => true,
        _ if thread.question.place.is_some() => answer == answer::NONE || decline(thread),
        // The question could not be kept while polls go on inside this one.
        answer::UNKNOWN if stop.what == Place::WHAT_POLL => decline(thread),
        _ => {
            put_in_question(thread, place, now);
            true
        }
    };
    verdict | u32::from(is_open)
}

/// Takes a poll to have ended of which that cannot be told.
#[inline(always)]
fn decline(thread: &Thread) -> bool {
    count(thread.target, Counter::Undecided);
    false
}

/// Takes the innermost poll to be open although its stack does not show it.
#[inline(always)]
fn presume(thread: &mut Thread) {
    if let Some(poll) = thread.innermost_mut() {
        poll.flags |= OpenPoll::PRESUMED;
    }
}

/// Keeps that the innermost poll may have ended here.
#[inline(always)]
fn put_in_question(thread: &mut Thread, place: &Place, now: u64) {
    thread.question = Question {
        place: *place,
        depth: thread.depth,
        verdict: 0,
        time_ns: now,
        blocked_ns: thread.blocked_ns,
        runnable_ns: thread.runnable_ns,
    };
    if root::is_next(thread) {
        root::start(thread, now);
    }
}

#[inline(always)]
fn is_same(one: &Place, other: &Place) -> bool {
    one.ip == other.ip && one.distance == other.distance && one.what == other.what
}

/// Two calls may share a place, so every so many times it is asked about again: a number of times
/// as often as it comes, and then not more often than a thread can afford.
#[inline(always)]
fn is_time_to_ask_again(thread: &Thread, asked_again: u32, now: u64) -> bool {
    const OUT_OF: u64 = 64; // The clock's lowest bits are as good as chance.
    const FREELY: u32 = 100;
    const PAUSE_NS: u64 = 2_000_000_000;
    let is_new = asked_again < FREELY;
    // Without a branch, as above.
    (now % OUT_OF == 0) & (is_new | (now - thread.asked_ns >= PAUSE_NS))
}

/// Ends the innermost poll: now or, if that was in question, then.
#[inline(never)]
fn end(thread: &mut Thread, now: u64) {
    let mut end = End::now(thread, now);
    let mut answer = answer::OPEN;
    if thread.is_in_question() {
        answer = answered(&thread.question.place).answer;
        if answer != answer::OPEN && answer != answer::PRESUMED {
            end = End {
                ns: thread.question.time_ns,
                blocked_ns: thread.question.blocked_ns,
                runnable_ns: thread.question.runnable_ns,
            };
        }
    }
    if let Some(poll) = thread.innermost()
        && let Some(config) = config(thread.target)
    {
        let may_be_long = now - poll.start_ns >= config.threshold_ns;
        let long = tally(thread.target, poll, &end);
        if (answer == answer::NONE || answer == answer::UNKNOWN) && may_be_long {
            event::unsettled(thread, poll, &End::now(thread, now));
        } else if long {
            event::poll(Kind::Poll, thread, poll, &end);
        }
    }
    if answer == answer::NONE && root::is_next(thread) {
        root::end(thread);
    }
    if answer != answer::ENDED {
        thread.gap_ns = 0;
    }
    if thread.is_in_question() {
        thread.question.place.ip = 0;
    }
    thread.depth -= 1;
    thread.unsent_ns = 0;
    if thread.depth == 0 {
        health::turned(thread, end.ns);
    }
}

#[inline(always)]
fn answered(place: &Place) -> Answered {
    // SAFETY: the value is copied out at once; a deleted element's memory stays the map's.
    unsafe { ANSWERS.get(place) }.copied().unwrap_or_default()
}

/// Keeps that a place that has an answer is asked about again.
#[inline(always)]
fn asks_again(place: &Place) {
    if let Some(answered) = ANSWERS.get_ptr_mut(place) {
        // SAFETY: as above. Of two threads that count at the same time one may count in vain.
        unsafe { (*answered).asked_again = (*answered).asked_again.wrapping_add(1) };
    }
}
