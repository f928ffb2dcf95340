//! The probe at what schedules a task, for the time from there to its poll.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_probe_read_user, generated::bpf_get_attach_cookie},
    macros::uprobe,
    programs::ProbeContext,
};
use loopprobe_common::{cost::Part, wake::HeaderPlace};

use crate::{
    arch,
    clock::now,
    cost,
    maps::is_over,
    own_stack,
    thread::{Visible, current_tid, known, visible},
    wake,
};

/// A task is scheduled: it is to be polled. The cookie says where its header is.
#[uprobe]
pub fn schedule_enter(ctx: ProbeContext) -> u32 {
    own_stack::of_thread(&ctx);
    let _ = try_schedule_enter(&ctx);
    0
}

#[inline(always)]
fn try_schedule_enter(ctx: &ProbeContext) -> Option<()> {
    let thread = known(current_tid());
    // Not only threads that poll schedule tasks.
    let by = match &thread {
        Some(thread) => Visible::of(thread),
        None => visible()?,
    };
    cost::count(by.target, Part::Loop);
    // SAFETY: the context is the program's own.
    let place = HeaderPlace::of(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    // SAFETY: the context's registers are the thread's at the probe.
    let header = header(unsafe { &*ctx.regs }, &place)?;
    let now = now();
    if is_over(by.target, now) {
        return None;
    }
    let mut poll_ns = 0;
    if let Some(thread) = thread {
        cost::probe(thread);
        poll_ns = thread.innermost().map_or(0, |poll| poll.start_ns);
    }
    wake::scheduled(header, now, &by, poll_ns);
    Some(())
}

#[inline(always)]
fn header(regs: &pt_regs, place: &HeaderPlace) -> Option<u64> {
    if let Some((register, distance)) = place.guard {
        let address = arch::register(regs, register)?;
        let probe = arch::instruction_pointer(regs);
        if address != probe.wrapping_add(i64::from(distance) as u64) {
            return None;
        }
    }
    let value = arch::register(regs, place.register)?;
    match place.offset {
        None => Some(value),
        Some(offset) => {
            let address = value.wrapping_add(i64::from(offset) as u64);
            // SAFETY: the helper fails on a bad address.
            unsafe { bpf_probe_read_user(address as *const u64) }.ok()
        }
    }
}
