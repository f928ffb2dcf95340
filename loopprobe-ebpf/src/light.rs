//! Entry-only timing: finds out where polls end without return probes. See `loopprobe_common::light` for how.

use loopprobe_common::{
    counters::Counter,
    light::{Place, Question, answer},
    records::Kind,
    thread::Thread,
};

use crate::{
    arch, event,
    maps::{ANSWERS, CONFIG, count},
    poll::{self, End, tally},
    root, stack,
};

/// How many polls are ended at once: the verifier follows each through every way that it can end, which takes the kernel 0.1 s a
/// poll. Deeper ones have to wait for the thread's next stop.
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
        let regs = stack::user_registers()?;
        let user = arch::user(&regs);
        let syscall = arch::syscall(&regs);
        let descriptor = if arch::is_epoll(syscall) {
            arch::arguments(&regs)[0] << 32
        } else {
            0
        };
        Some(Self {
            sp: arch::stack_pointer(user),
            ip: arch::instruction_pointer(user),
            what: u64::from(syscall as u32) | descriptor,
        })
    }

    fn place(&self, entry: u64) -> Place {
        Place {
            ip: self.ip,
            distance: entry - self.sp,
            what: self.what,
        }
    }
}

/// Ends the polls that lie at or below `sp`: an inner poll's stack pointer is always below the outer one's.
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
    poll::drop_missed(thread, sp);
    if thread.question.depth > thread.depth {
        thread.question.place.ip = 0;
    }
}

/// Ends the polls that the thread has left.
#[inline(never)]
pub fn settle(thread: &mut Thread, stop: &Stop, now: u64) {
    let mut place = Place::default();
    let mut answer = answer::NONE;
    for _ in 0..AT_ONCE {
        let Some(entry) = thread.innermost().map(|poll| poll.stack_pointer) else {
            break;
        };
        if stop.sp <= entry {
            if is_in_question(thread) {
                answer = answered(&thread.question.place);
                if answer == answer::NONE {
                    return;
                }
                if answer == answer::OPEN {
                    thread.question.place.ip = 0;
                }
            }
            if !is_in_question(thread) {
                place = stop.place(entry);
                answer = answered(&place);
                if answer == answer::OPEN || answer == answer::NONE || is_time_to_ask_again(now) {
                    break;
                }
                if answer == answer::UNKNOWN {
                    count(Counter::Undecided);
                }
            }
        }
        end(thread, now);
        place = Place::default();
    }
    if thread.depth > 0 && place.is_some() {
        at(thread, &place, answer, now);
    }
    if thread.depth == 0 && thread.flags & Thread::LOCAL != 0 {
        root::begin(thread, now);
    }
}

/// Asks about a place if that is due, and goes by the answer that there is.
#[inline(always)]
fn at(thread: &mut Thread, place: &Place, answer: u32, now: u64) {
    if answer == answer::NONE || is_time_to_ask_again(now) {
        stack::ask(thread, place, now);
    }
    match answer {
        answer::OPEN => {}
        answer::NONE => {
            if !thread.question.place.is_some() {
                thread.question = Question {
                    place: *place,
                    depth: thread.depth,
                    reserved: 0,
                    time_ns: now,
                    blocked_ns: thread.blocked_ns,
                    runnable_ns: thread.runnable_ns,
                };
            }
        }
        _ => {
            if answer == answer::UNKNOWN {
                count(Counter::Undecided);
            }
            end(thread, now);
        }
    }
}

/// Two calls may share a place, so every so many times it is asked for again.
#[inline(always)]
fn is_time_to_ask_again(now: u64) -> bool {
    const OUT_OF: u64 = 64; // The clock's lowest bits are as good as chance.
    now % OUT_OF == 0
}

/// Whether the innermost poll is in question.
#[inline(always)]
fn is_in_question(thread: &Thread) -> bool {
    thread.question.place.is_some() && thread.question.depth == thread.depth
}

/// Ends the innermost poll: now or, if that was in question, then.
#[inline(never)]
fn end(thread: &mut Thread, now: u64) {
    let mut end = End::now(thread, now);
    let mut answer = answer::OPEN;
    if is_in_question(thread) {
        answer = answered(&thread.question.place);
        if answer != answer::OPEN {
            end = End {
                ns: thread.question.time_ns,
                blocked_ns: thread.question.blocked_ns,
                runnable_ns: thread.question.runnable_ns,
            };
        }
    }
    if let Some(poll) = thread.innermost()
        && let Some(config) = CONFIG.get(0)
    {
        let may_be_long = now - poll.start_ns >= config.threshold_ns;
        let long = tally(poll, &end);
        if answer == answer::NONE && may_be_long {
            event::unsettled(thread, poll, &End::now(thread, now));
        } else if long {
            event::poll(Kind::Poll, thread, poll, &end);
        }
        if answer == answer::UNKNOWN && may_be_long {
            count(Counter::Undecided);
        }
    }
    if is_in_question(thread) {
        thread.question.place.ip = 0;
    }
    thread.depth -= 1;
    thread.unsent_ns = 0;
}

#[inline(always)]
fn answered(place: &Place) -> u32 {
    // SAFETY: the value is copied out at once; a deleted element's memory stays the map's.
    unsafe { ANSWERS.get(place) }
        .copied()
        .unwrap_or(answer::NONE)
}
