//! Probes at the beginning and the end of polls: the hot path, paid for by every poll of the
//! target.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_get_attach_cookie,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use loopprobe_common::{
    config::{Site, TaskLayout},
    cost::Part,
    counters::Counter,
    light::Place,
    records::Kind,
    thread::{OpenPoll, STAGE_WORDS, Thread},
};

use crate::{
    arch,
    clock::now,
    cost,
    ending::{drop_missed, tally},
    event::{self, End},
    health,
    light::{self, Stop},
    maps::{SITES, STATS, WORKER_TYPES, config, count, is_lag, is_light, is_over},
    own_stack, root, split,
    task::{self, Task},
    thread::{current, current_tid, known, mark_block_in_place},
    wake,
};

/// A poll of an async task begins: `raw::poll(header)`.
#[uprobe]
pub fn poll_enter(ctx: ProbeContext) -> u32 {
    own_stack::of_thread(&ctx);
    let _ = try_poll_enter(&ctx);
    0
}

#[inline(always)]
fn try_poll_enter(ctx: &ProbeContext) -> Option<()> {
    let site = site(ctx)?;
    let thread = current()?;
    light::at_probe(thread, |thread| begin(ctx, site, thread))
}

#[inline(always)]
fn begin(ctx: &ProbeContext, site: (u64, &'static Site), thread: &mut Thread) -> Option<()> {
    let (cookie, site) = site;
    let header: u64 = ctx.arg(0)?;
    let target = thread.target;
    split::catch_up_current(thread, now);
    cost::probe(thread);
    // SAFETY: the context's registers are the thread's at the probe.
    let sp = arch::stack_pointer(unsafe { &*ctx.regs });
    // SAFETY: as above.
    let probe = arch::instruction_pointer(unsafe { &*ctx.regs });
    if is_light() {
        leave(thread, sp, probe);
    } else if thread
        .innermost()
        .is_some_and(|outer| outer.stack_pointer <= sp)
    {
        if is_over(target, now()) {
            return None;
        }
        drop_missed(thread, sp);
    }
    let depth = thread.depth;
    let config = config(target)?;
    let lazy = config.lazy_headers != 0
        && site.task.flags & TaskLayout::FLAG_SHARED == 0
        && !tells_of_thread(thread, site);
    let task = if lazy {
        Task::unread(site)
    } else {
        task::identify(header, probe, cookie as u32, site)
            .unwrap_or_else(|why| Task::unknown(target, why))
    };
    if depth == 0 {
        outermost(thread, &task);
    } else if let Some(outer) = thread.innermost_mut() {
        task::read_late(target, outer);
    }
    let (blocked_ns, runnable_ns) = (thread.blocked_ns, thread.runnable_ns);
    // The compiler must not leave out the check where it knows that the depth is 0: the verifier of
    // Linux 6.1 does not.
    let Some(poll) = thread.polls.get_mut(core::hint::black_box(depth) as usize) else {
        count(target, Counter::TooDeep);
        return None;
    };
    // Field by field: a struct on the program's stack would be zeroed and copied byte by byte.
    poll.stack_pointer = sp;
    poll.header = header;
    poll.task_id = task.id;
    poll.scheduler = task.scheduler;
    poll.blocked_ns = blocked_ns;
    poll.runnable_ns = runnable_ns;
    poll.task_type = task.index;
    poll.flags = if lazy { OpenPoll::UNREAD } else { 0 };
    poll.outer = depth;
    poll.probe = probe;
    poll.site = cookie as u32;
    if task.flags & TaskLayout::FLAG_BOXED != 0 {
        if lazy {
            poll.stage = [0; STAGE_WORDS];
        } else {
            task::keep_stage(target, poll, task.id_offset);
        }
    }
    let start_ns = now();
    if config.is_over(start_ns) {
        return None;
    }
    poll.start_ns = start_ns;
    if is_light() {
        // SAFETY: as above.
        thread.entered_with = arch::scratch(unsafe { &*ctx.regs });
    }
    thread.unsent_ns = 0;
    thread.gap_ns = 0;
    thread.depth = depth + 1;
    if is_lag()
        && thread.flags & Thread::CANARY == 0
        && let Some(poll) = thread.polls.get(core::hint::black_box(depth) as usize)
    {
        wake::polled(thread, poll);
    }
    Some(())
}

/// Entry-only timing: the polls that the thread has left when it begins another one.
#[inline(always)]
fn leave(thread: &mut Thread, sp: u64, probe: u64) {
    if thread.depth == 0 {
        return;
    }
    let now = now();
    if is_over(thread.target, now) {
        return;
    }
    light::close(thread, sp, now);
    if thread.depth > 0 {
        let stop = Stop {
            sp,
            ip: probe,
            what: Place::WHAT_POLL,
        };
        light::settle(thread, &stop, now);
    }
}

/// A poll of an async task ends.
#[uretprobe]
pub fn poll_exit(ctx: RetProbeContext) -> u32 {
    let end_ns = now();
    own_stack::of_thread(&ctx);
    let _ = try_poll_exit(&ctx, end_ns);
    0
}

#[inline(always)]
fn try_poll_exit(ctx: &RetProbeContext, end_ns: u64) -> Option<()> {
    let thread = known(current_tid())?;
    if is_over(thread.target, end_ns) {
        return None;
    }
    split::catch_up_current(thread, || end_ns);
    cost::probe(thread);
    // SAFETY: as above.
    let sp = arch::stack_pointer(unsafe { &*ctx.regs }) - arch::POPPED;
    if thread
        .innermost()
        .is_some_and(|poll| poll.stack_pointer < sp)
    {
        drop_missed(thread, sp - 1);
    }
    let returned_ns = match thread.innermost() {
        Some(poll) if poll.stack_pointer == sp => {
            let mut end = End::now(thread, end_ns);
            if poll.flags & OpenPoll::RETURNED != 0 {
                end = End::at_return(thread);
            }
            finish(thread, poll, &end);
            end.ns
        }
        _ => {
            count(thread.target, Counter::UnmatchedEnd);
            return None;
        }
    };
    thread.depth -= 1;
    thread.unsent_ns = 0;
    if thread.depth == 0 {
        health::turned(thread, returned_ns);
        if thread.flags & Thread::LOCAL != 0 {
            root::begin(thread, end_ns);
        }
    }
    Some(())
}

/// Counts a poll that has ended, and sends it if it was long.
#[inline(always)]
fn finish(thread: &Thread, poll: &OpenPoll, end: &End) {
    if tally(thread.target, poll, end) {
        event::poll(Kind::Poll, thread, poll, end);
    }
}

/// A closure on the blocking pool begins. Its end is not probed: a worker's own closure never ends.
#[uprobe]
pub fn blocking_enter(ctx: ProbeContext) -> u32 {
    own_stack::of_thread(&ctx);
    let _ = try_blocking_enter(&ctx);
    0
}

#[inline(always)]
fn try_blocking_enter(ctx: &ProbeContext) -> Option<()> {
    let (cookie, site) = site(ctx)?;
    let thread = current()?;
    let now = now();
    let target = thread.target;
    let config = config(target)?;
    if config.is_over(now) {
        return None;
    }
    cost::count(target, Part::Loop);
    cost::probe(thread);
    if is_light() {
        // SAFETY: the context's registers are the thread's at the probe.
        let sp = arch::stack_pointer(unsafe { &*ctx.regs });
        light::at_probe(thread, |thread| light::close(thread, sp, now));
    }
    thread.flags &= !Thread::WORKER;
    if thread.depth == 0 {
        thread.gap_ns = 0;
    }
    thread.launcher = core::mem::take(&mut thread.waker);
    // SAFETY: the context's registers are the thread's at the probe.
    let probe = arch::instruction_pointer(unsafe { &*ctx.regs });
    let task = task::identify(ctx.arg(0)?, probe, cookie as u32, site)
        .unwrap_or_else(|why| Task::unknown(target, why));
    thread.closure_type = task.index;
    if WORKER_TYPES
        .get(task.index)
        .is_some_and(|is_worker| *is_worker != 0)
    {
        mark_block_in_place(&thread.launcher);
    }
    if config.has_begun(now)
        && let Some(stats) = STATS.get_ptr_mut(task.index)
    {
        // SAFETY: the pointer is to this CPU's own value.
        unsafe { (*stats).polls += 1 }
    }
    Some(())
}

/// Whether a poll's scheduler can say whose worker its thread is, and whether another poll has
/// started it.
#[inline(always)]
fn tells_of_thread(thread: &Thread, site: &Site) -> bool {
    thread.flags & Thread::WORKER == 0 && site.task.flags & TaskLayout::FLAG_LOCAL == 0
}

/// What an outermost poll says of its thread.
#[inline(always)]
fn outermost(thread: &mut Thread, task: &Task) {
    if task.flags & TaskLayout::FLAG_LOCAL != 0 {
        thread.flags |= Thread::LOCAL;
        root::end(thread);
    } else if thread.flags & Thread::WORKER == 0 {
        thread.flags |= Thread::WORKER | Thread::SHARED;
        thread.scheduler = task.scheduler;
        if task.scheduler != 0 && thread.launcher.scheduler == task.scheduler {
            // From now on such a closure marks as soon as it begins: its first poll may come too
            // late.
            let _ = WORKER_TYPES.set(thread.closure_type, 1, 0);
            mark_block_in_place(&thread.launcher);
        }
    }
}

#[inline(always)]
fn site(ctx: &ProbeContext) -> Option<(u64, &'static Site)> {
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    Some((cookie, SITES.get(cookie as u32)?))
}
