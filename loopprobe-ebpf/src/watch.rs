//! Polls without probes: at each switch and sample of one of the target's threads, what its own
//! variables say that it polls.

use aya_ebpf::helpers::{bpf_probe_read_user, generated::bpf_probe_read_user as probe_read_user};
use loopprobe_common::{
    config::UNKNOWN_TYPE,
    counters::Counter,
    records::Kind,
    thread::{OpenPoll, Thread},
    watch::{MAX_WORDS, WINDOW_WORDS, Wait, Watch, WatchRecord, Words, is_root},
};

use crate::{
    maps::{EVENTS, NO_WAKEUP, config, count, is_roots_only, words},
    task_struct::KernelTask,
    thread::{create, scheduled_task, visible},
};

/// The state of the current thread, whose task is `task`, if it is a target's; made on first use.
#[inline(always)]
pub fn current(task: KernelTask) -> Option<&'static mut Thread> {
    if let Some(thread) = scheduled_task(task) {
        return (thread.flags & Thread::ASIDE == 0).then_some(thread);
    }
    visible()?;
    // A thread that is at its end still goes off its CPU once; its state is gone by then.
    if task.is_exiting() {
        return None;
    }
    create(task.tid())
}

/// What a thread polls.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Polled {
    is_poll: bool,
    /// 0 where there is none: of a poll, the root future's.
    task_id: u64,
}

impl Polled {
    #[inline(always)]
    fn of(words: &Words, has_budget: u8, tag: u64, task_id: u64) -> Self {
        let is_there = words.has_tag == 0 || tag == 1;
        Self {
            is_poll: has_budget == 1,
            task_id: if is_there { task_id } else { 0 },
        }
    }
}

/// Looks at the current thread, whose state `thread` is.
#[inline(never)]
pub fn look(thread: &mut Thread, now: u64) {
    let was_open = thread.depth > 0;
    let Some(polled) = polled(thread.target, &mut thread.watch.window) else {
        // What it polled may go on, or not.
        if !KernelTask::current().is_exiting() {
            count(thread.target, Counter::Unreadable);
        }
        lose_sight(thread, now);
        return;
    };
    if is_roots_only() && polled.is_poll && !is_root(polled.task_id, thread.watch.idle_id) {
        thread.flags |= Thread::ASIDE;
        thread.depth = 0;
        return;
    }
    let is_same = thread.watch.task_id == polled.task_id;
    if was_open && polled.is_poll && is_same {
        thread.watch.last_ns = now;
    } else {
        // A poll has no budget in `block_in_place` and `unconstrained`, but goes on.
        let goes_on = is_same && polled.task_id != 0 && was_open != polled.is_poll;
        // A root future may poll tasks itself (`LocalSet`), and is not seen then.
        let idle_id = thread.watch.idle_id;
        let nests = |task_id| was_open && polled.is_poll && is_root(task_id, idle_id);
        if was_open {
            let is_open = goes_on || nests(thread.watch.task_id);
            end(thread, is_open, now);
        }
        if polled.is_poll {
            begin(
                thread,
                polled.task_id,
                goes_on || nests(polled.task_id),
                now,
            );
        } else {
            thread.watch.idle_id = polled.task_id;
        }
    }
    thread.watch.task_id = polled.task_id;
    thread.watch.seen_ns = now;
}

/// What the thread does is not known any more.
#[inline(always)]
fn lose_sight(thread: &mut Thread, now: u64) {
    if thread.depth > 0 {
        end(thread, true, now);
    }
    thread.watch.seen_ns = 0;
}

/// The thread is back on a CPU after the wait; `has_run`: unseen, it was on one in between.
#[inline(always)]
pub fn back(thread: &mut Thread, wait: Wait, has_run: bool, now: u64) {
    if has_run {
        count(thread.target, Counter::SwitchLost);
        lose_sight(thread, now);
        return;
    }
    if thread.depth > 0 {
        thread.watch.last_ns = now;
        if wait.ns > thread.watch.longest.ns {
            thread.watch.longest = wait;
        }
    }
    if thread.watch.seen_ns != 0 {
        thread.watch.seen_ns = now;
    }
}

#[inline(always)]
fn begin(thread: &mut Thread, task_id: u64, is_older: bool, now: u64) {
    let seen_ns = thread.watch.seen_ns;
    let is_older = is_older || seen_ns == 0;
    let watch = &mut thread.watch;
    watch.lo_ns = if seen_ns == 0 { now } else { seen_ns };
    watch.last_ns = now;
    watch.flags = if is_older { WatchRecord::OLDER } else { 0 };
    watch.longest = Wait::default();
    let poll = &mut thread.polls[0];
    poll.start_ns = now;
    poll.stack_pointer = 0;
    poll.header = 0;
    poll.task_id = task_id;
    poll.scheduler = 0;
    poll.blocked_ns = thread.blocked_ns;
    poll.runnable_ns = thread.runnable_ns;
    poll.task_type = UNKNOWN_TYPE;
    poll.flags = 0;
    poll.outer = 0;
    thread.unsent_ns = 0;
    thread.depth = 1;
}

/// The thread no longer polls what it did, or is not seen to.
#[inline(always)]
fn end(thread: &mut Thread, goes_on: bool, now: u64) {
    thread.depth = 0;
    thread.unsent_ns = 0;
    let Some(config) = config(thread.target) else {
        return;
    };
    let (poll, watch): (&OpenPoll, &Watch) = (&thread.polls[0], &thread.watch);
    if now.saturating_sub(watch.lo_ns) < config.threshold_ns {
        return;
    }
    let goes_on = if goes_on { WatchRecord::GOES_ON } else { 0 };
    let is_certain = watch.longest.ns >= config.threshold_ns;
    let certain = if is_certain { WatchRecord::CERTAIN } else { 0 };
    let Some(mut entry) = EVENTS.reserve::<WatchRecord>(0) else {
        count(thread.target, Counter::EventLost);
        return;
    };
    entry.write(WatchRecord {
        kind: Kind::Watched as u16,
        target: thread.target as u16,
        tid: thread.tid,
        task_id: poll.task_id,
        idle_id: watch.idle_id,
        flags: watch.flags | goes_on | certain,
        lo_ns: watch.lo_ns,
        first_ns: poll.start_ns,
        last_ns: watch.last_ns,
        hi_ns: now,
        longest: watch.longest,
        blocked_ns: thread.blocked_ns - poll.blocked_ns,
        runnable_ns: thread.runnable_ns - poll.runnable_ns,
    });
    entry.submit(if is_certain { 0 } else { NO_WAKEUP });
}

/// A target executes another program: what was mapped is gone.
#[inline(always)]
pub fn executed(target: u32) {
    for index in 0..MAX_WORDS {
        let Some(words) = words(target, index) else {
            return;
        };
        // SAFETY: an array's elements live as long as the map; user space writes to it only once it
        // knows of this.
        let words = unsafe { &mut *words };
        words.state = if words.state == Words::FROM_EXEC {
            Words::USED
        } else {
            Words::UNUSED
        };
    }
}

/// What the current thread polls. `None` if its variables cannot be read.
#[inline(always)]
fn polled(target: u32, window: &mut [u64; WINDOW_WORDS]) -> Option<Polled> {
    let thread_pointer = KernelTask::current().thread_pointer();
    let mut first = Polled {
        is_poll: false,
        task_id: 0,
    };
    for index in 0..MAX_WORDS {
        // SAFETY: as in `executed`.
        let words = unsafe { &*words(target, index)? };
        if words.state != Words::USED || thread_pointer == 0 {
            break;
        }
        let polled = polled_by(words, thread_pointer, window)?;
        if polled.is_poll {
            return Some(polled);
        }
        if index == 0 {
            first = polled;
        }
    }
    Some(first)
}

/// What it polls of one image.
#[inline(always)]
fn polled_by(
    words: &Words,
    thread_pointer: u64,
    window: &mut [u64; WINDOW_WORDS],
) -> Option<Polled> {
    let Some(task_id_at) = task_id_at(words, thread_pointer)? else {
        return Some(Polled {
            is_poll: false,
            task_id: 0,
        });
    };
    let size = words.window;
    if size == 0 || size > size_of_val(window) as u64 {
        let read = read_apart(words.budget_distance, task_id_at);
        return (read.failed == 0)
            .then(|| Polled::of(words, read.has_budget as u8, read.tag, read.task_id));
    }
    let from = task_id_at.wrapping_sub(words.before);
    // SAFETY: the helper writes no more than that to `window`, and fails on a bad address.
    let failed =
        unsafe { probe_read_user(window.as_mut_ptr().cast(), size as u32, from as *const _) };
    if failed != 0 {
        return None;
    }
    let number = (words.before / 8) as usize;
    let budget = words.before.wrapping_add(words.budget_distance);
    let (tag, task_id) = (
        window[number.wrapping_sub(1) % WINDOW_WORDS],
        window[number % WINDOW_WORDS],
    );
    let has_budget = (window[(budget / 8) as usize % WINDOW_WORDS] >> (budget % 8 * 8)) as u8;
    Some(Polled::of(words, has_budget, tag, task_id))
}

/// What was read word by word. All of it is written always: the verifier of Linux 5.15 does not
/// know what an `Option` on the stack leaves out.
#[derive(Clone, Copy)]
struct Apart {
    failed: u64,
    has_budget: u64,
    tag: u64,
    task_id: u64,
}

/// The same where the words lie far from each other. Reading user memory is dear, however little.
#[inline(never)]
fn read_apart(budget_distance: u64, task_id_at: u64) -> Apart {
    let budget_at = task_id_at.wrapping_add(budget_distance);
    let (mut has_budget, mut pair) = (0_u8, [0_u64; 2]);
    // SAFETY: the helper writes the given size, zeros if the address is bad.
    let failed = unsafe {
        probe_read_user((&raw mut has_budget).cast(), 1, budget_at as *const _)
            | probe_read_user(
                pair.as_mut_ptr().cast(),
                size_of_val(&pair) as u32,
                task_id_at.wrapping_sub(8) as *const _,
            )
    };
    Apart {
        failed: failed as u64,
        has_budget: has_budget.into(),
        tag: pair[0],
        task_id: pair[1],
    }
}

/// Where the current thread keeps its task's number. The inner `None`: its module's block has not
/// been made yet.
#[inline(always)]
fn task_id_at(words: &Words, thread_pointer: u64) -> Option<Option<u64>> {
    if words.module == 0 {
        return Some(Some(thread_pointer.wrapping_add(words.task_id)));
    }
    // SAFETY: the helper fails on a bad address; the second word is the table of modules' blocks,
    // with glibc and with musl.
    let table = unsafe { bpf_probe_read_user((thread_pointer + 8) as *const u64) }.ok()?;
    let entry = table.wrapping_add(words.module.wrapping_mul(words.entry_size));
    // SAFETY: as above. A thread that is older than the module may have a shorter table.
    let block = unsafe { bpf_probe_read_user(entry as *const u64) }.unwrap_or(u64::MAX);
    let is_made = block != u64::MAX && block != 0;
    Some(is_made.then(|| block.wrapping_add(words.task_id)))
}
